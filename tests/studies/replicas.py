"""Replicas side by side against one after another: python tests/studies/replicas.py

Runs `scripts/benchmark.py --seeds 4 --batch-size 20 --hidden H` for each width H.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

BENCHMARK = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def ratio(hidden: int, epochs: int) -> str:
    """How many times as fast the replicas are side by side."""
    words = ["--seeds", "4", "--batch-size", "20", "--hidden", str(hidden)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *words, "--epochs", str(epochs)],
        capture_output=True,
        text=True,
        check=True,
    )
    name, value = done.stdout.splitlines()[-1].split()
    assert name == "ratio"
    return value


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128, 512])
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    rows = [[str(hidden), ratio(hidden, given.epochs)] for hidden in given.hidden]
    measured = measured_here([MeasuredTable(["H", "ratio"], rows)], "jax")
    keep_measured(given.out, "speed_replicas", measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
