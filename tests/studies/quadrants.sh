#!/usr/bin/env bash
# Completion of MNIST quadrants: results/quadrants.md.
#
#     PATH=.venv/bin:$PATH tests/studies/quadrants.sh runs/quadrants
#
# Twice for 1, 2 and 3 seen quadrants: as in Pyro's tutorial, where the test split
# says when to stop; and with a validation split that does. About 40 minutes on two
# cores; the same command again resumes.
set -euo pipefail
runs=${1:-runs/quadrants}

for seen in quadrant two_quadrants three_quadrants; do
    python scripts/train.py cvae_sohn --dataset mnist --seen $seen --epochs 20 \
        --baseline-epochs 20 --evaluate-every 1 --workdir "$runs/$seen-pyro"
    python scripts/train.py cvae_sohn --dataset mnist --seen $seen --epochs 30 \
        --baseline-epochs 15 --evaluate-every 1 --validation 0.1667 --patience 3 \
        --workdir "$runs/$seen-honest"
    python scripts/evaluate.py "$runs/$seen-honest" --samples 100
done

python tests/studies/quadrants_table.py "$runs" > results/quadrants.md
cat results/quadrants.md
