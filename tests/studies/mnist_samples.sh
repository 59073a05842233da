#!/usr/bin/env bash
# How good samples are on MNIST, over three seeds: results/mnist_samples.md.
#
#     PATH=.venv/bin:$PATH tests/studies/mnist_samples.sh runs/mnist_samples
#
# A classifier is trained first; it judges 10,000 samples of every run against the
# test split. About half an hour on two cores; the same command again resumes.
set -euo pipefail
runs=${1:-runs/mnist_samples}
out=results/mnist_samples.md

python scripts/train.py classifier --dataset mnist --body conv --batch-size 128 \
    --epochs 5 --workdir "$runs/judge"
python scripts/evaluate.py "$runs/judge" | tee "$runs/judge.txt"

study() {
    local name=$1
    shift
    echo "study.py $*"
    python scripts/study.py "$@" --dataset mnist --seeds 3 --evaluate-every 50 \
        --classifier "$runs/judge" --workdir "$runs/$name"
    echo "study.py $*" > "$runs/$name/command"
}

same=(--hidden 256 256 --latents 10 --epochs 10 --batch-size 64)
study cvae cvae --hidden 512 512 --latents 8 --epochs 20 --batch-size 128
study vae vae "${same[@]}" --binarize none
study vae_longer vae "${same[@]}" --binarize none --epochs 40
study vaegan vaegan "${same[@]}"
study gan gan --hidden 256 256 --epochs 10
study cvaegan cvaegan "${same[@]}"

python tests/studies/mnist_samples_table.py "$runs" > "$out"
cat "$out"
