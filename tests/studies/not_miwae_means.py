"""not-MIWAE imputed as its authors' code does, by the runs of `not_miwae.sh`.

python tests/studies/not_miwae_means.py RUNS RESULTS

Weights with p(m | x) in them are of completions x_k, whose weighted average is the mean
of p(x_missing | x_observed, m): our imputation. The authors' code averages E[x | z_k]
by the same weights, as if a completion told nothing beyond its z. The difference is in
rows of their own, RMSE of each seed in RESULTS/ROW_means-SET.json.
"""

import json
import sys
from pathlib import Path

from vaejax import evaluate, load
from vaejax.cli.commands import keep_compiled
from vaejax.inference import imputation

SAMPLES = 2000


def main(runs: Path, results: Path) -> None:
    """Measures all sets that are trained and not measured yet."""
    keep_compiled()
    imputation.encoding = lambda px, x: imputation.expectation(px)  # the authors' rule
    for row in ("ppca", "ppca_mlp", "not_miwae"):
        for trained in sorted(results.glob(f"{row}-*.json")):
            name = trained.stem.removeprefix(f"{row}-")
            path = results / f"{row}_means-{name}.json"
            if not path.exists():
                replicas = sorted((runs / row / name).glob("seed=*"))
                path.write_text(json.dumps([rmse(replica) for replica in replicas]))


def rmse(workdir: Path) -> float:
    """Of one trained model, standardized units."""
    return evaluate(*load(workdir), samples=SAMPLES)["rmse"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
