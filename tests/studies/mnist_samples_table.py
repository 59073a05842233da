"""The table of `mnist_samples.sh`: python tests/studies/mnist_samples_table.py RUNS"""

import json
import sys
from pathlib import Path

STUDIES = ("cvae", "cvaegan", "vae", "vae_longer", "vaegan", "gan")


def cell(row: dict, name: str) -> str:
    """Mean and deviation over seeds."""
    if name not in row["mean"]:
        return ""
    return f"{row['mean'][name]:.4g} ± {row['deviation'][name]:.2g}"


def minutes(folder: Path) -> float:
    """Of training, for one of the seeds: they share the clock of their study."""
    replicas = sorted(folder.glob("seed=*"))
    rows = (replicas[0] / "timing.jsonl").read_text().splitlines()
    return json.loads(rows[-1])["seconds"] / len(replicas) / 60


def main(runs: Path) -> None:
    judge = json.loads((runs / "judge" / "evaluation.json").read_text())
    columns = ("label_accuracy", "least_class_share", "fd_", "kd_")
    print(
        "# Samples on MNIST\n\nMean and deviation over three seeds. Samples are "
        "E[x | z], 10,000 of each run, against the 10,000 test examples, as seen by "
        f"a classifier of ours with accuracy {judge['accuracy']:.4f}: `fd` and `kd` "
        "are the Fréchet and the kernel distance of its features, not FID and KID.\n"
    )
    print("| | label accuracy | least class share | fd | kd | minutes a run |")
    print("|---|---|---|---|---|---|")
    commands = []
    for name in STUDIES:
        (row,) = json.loads((runs / name / "table.json").read_text())
        full = [next((n for n in row["mean"] if n.startswith(c)), c) for c in columns]
        cells = [f"`{name}`", *(cell(row, n) for n in full)]
        print(f"| {' | '.join(cells)} | {minutes(runs / name):.1f} |")
        commands.append((runs / name / "command").read_text().strip())
    print(
        "\nA third of a study of three seeds, which train side by side; two cores of "
        "an AMD EPYC, other\nwork beside. Repeat: `tests/studies/mnist_samples.sh`.\n"
    )
    print("\n".join(("```", *commands, "```")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
