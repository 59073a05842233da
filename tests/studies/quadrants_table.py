"""The table of `quadrants.sh`: python tests/studies/quadrants_table.py RUNS"""

import json
import sys
from pathlib import Path

SEEN = ("quadrant", "two_quadrants", "three_quadrants")
PYRO = {"baseline_nll": (100.4, 61.9, 25.4), "elbo": (71.8, 51.0, 24.2)}


def test_rows(folder: Path) -> list[dict]:
    """What training said of the test split."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == "test"]


def line(what: str, values: list[str]) -> str:
    return f"| {' | '.join((what, *values))} |"


def main(runs: Path) -> None:
    print(
        "# Completion of MNIST quadrants\n\n`cvae_sohn`, 784-500-500-200, one seed, "
        "nats per image over the pixels that are not seen. The targets\nare grey, as "
        "in Pyro's tutorial of Sohn, Lee & Yan 2015.\n"
    )
    print(line("", ["1 quadrant seen", "2", "3"]))
    print("|---|---|---|---|")
    print(line("**Pyro's protocol**: stopped by the test split", ["", "", ""]))
    rows = [test_rows(runs / f"{seen}-pyro") for seen in SEEN]
    names = {"baseline_nll": "baseline", "elbo": "negative ELBO (Pyro: Monte Carlo)"}
    for name, meaning in names.items():
        sign = -1 if name == "elbo" else 1
        best = [min(sign * row[name] for row in each) for each in rows]
        print(line(meaning, [f"{value:.2f}" for value in best]))
        print(line("– Pyro's number", [f"{value}" for value in PYRO[name]]))
    print(line("**stopped by a validation split** (10,000 examples)", ["", "", ""]))
    found = [
        json.loads((runs / f"{seen}-honest" / "evaluation.json").read_text())
        for seen in SEEN
    ]
    meanings = {
        "baseline_nll": "baseline",
        "elbo": "negative ELBO",
        "nll": "-log p(x \\| seen), 100 importance samples",
        "nll_monte_carlo": "-log p(x \\| seen), 100 draws of the prior",
    }
    for name, meaning in meanings.items():
        values = [-each[name] if name == "elbo" else each[name] for each in found]
        errors = [each[f"{name}_se"] for each in found]
        both = zip(values, errors, strict=True)
        print(line(meaning, [f"{value:.2f} ± {error:.2f}" for value, error in both]))
    print(line("steps", [str(each["step"]) for each in found]))
    print(
        "\n± is the standard error over test examples. What Pyro calls Monte Carlo is "
        "the ELBO under the recognition\nnetwork, with 10 draws of z; the ELBO here "
        "has one. Both of its numbers are stopped and scored on the\ntest split. "
        "Repeat: `tests/studies/quadrants.sh`."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
