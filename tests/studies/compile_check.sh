#!/usr/bin/env bash
# Training steps compiled for slices that are not here: results/compile_check.md.
#
#     PATH=.venv/bin:$PATH tests/studies/compile_check.sh runs/compile_check
#
# Needs libtpu (pip install 'vaejax[aot]'), and no TPU. About two hours on two cores;
# the same command again leaves out what is there.
set -euo pipefail
runs=${1:-runs/compile_check}
mkdir -p "$runs"

check() {
    local name=$1
    if [ ! -e "$runs/$name.json" ]; then
        echo "compile_check.py $*" > "$runs/$name.command"
        # A slice that fails its check makes it exit with 1; the table says so.
        python scripts/compile_check.py "$@" --json "$runs/$name.json" \
            --topology v5e:2x4 --topology v5e:16x16 --topology v5p:4x4x4 \
            | tee "$runs/$name.txt" || [ -e "$runs/$name.json" ]
    fi
}

# As large as MNIST, CelebA and ImageNet at 64 pixels a side; none need be here.
check vae_conv --images 60000x28x28x1 --batch-size 2048
check vaegan_paper --images 162770x64x64x3 --batch-size 2048
check vae_residual_large --images 1281167x64x64x3

python tests/studies/compile_check_table.py "$runs" > results/compile_check.md
cat results/compile_check.md
