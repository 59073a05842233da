#!/usr/bin/env bash
# not-MIWAE's Table 1 [Ipsen et al. 2021]: six tables whose first half of columns is
# missing above the mean, five seeds side by side. One command, resumable: cells whose
# result is in results/not_miwae are skipped.
# Usage: tests/studies/not_miwae.sh UCI5.npz [ITERATIONS [ROW ...]]
set -euo pipefail
cd "$(dirname "$0")/../.."
data=$1 iterations=${2:-100000}
shift; shift || true
rows=${*:-ppca not_miwae miwae ppca_mlp}
home=runs/not_miwae results=results/not_miwae
mkdir -p "$results"
python=${PYTHON:-.venv/bin/python}
export JAX_PLATFORMS=cpu
$python tests/studies/missing_tables.py "$data" "$home/data"

# name, rows, columns that are hidden, latents (columns - 1)
sets="banknote:1372:2:3 concrete:1030:4:7 breast:569:15:29 red:1599:5:10 yeast:1484:3:5 white:4898:5:10"
for row in $rows; do
    for set in $sets; do
        IFS=: read -r name size hidden latents <<<"$set"
        folder=$home/$row/$name
        test -f "$results/$row-$name.json" && continue
        steps=$((size / 16))
        case $row in
            ppca) model="not_miwae --process high_missing --body linear --likelihood gaussian" ;;
            ppca_mlp) model="not_miwae --process high_missing --body linear_decoder --likelihood gaussian" ;;
            not_miwae) model="not_miwae --process high_missing" ;;
            miwae) model="miwae --likelihood gaussian_pixel" ;;
        esac
        # shellcheck disable=SC2086
        $python scripts/study.py $model --dataset "npz:$home/data/$name.npz" \
            --hide above_mean --hide-columns "$hidden" --latents "$latents" \
            --batch-size 16 --epochs $((iterations / steps)) --log-every 5000 \
            --evaluate-every 1000000 --checkpoint-every 20000 \
            --seeds 5 --importance-samples 2000 --workdir "$folder" >"$home/log.$row" 2>&1
        cp "$folder/table.json" "$results/$row-$name.json"
    done
done
$python tests/studies/not_miwae_means.py "$home" "$results"
$python tests/studies/not_miwae_table.py "$home/data" "$results"
