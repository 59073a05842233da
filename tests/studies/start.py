"""Seconds from the command to its first step, against bare imports, in turn:
python tests/studies/start.py 5 [--edition NAME FOLDER]

The imports are those of the packages that a training needs, and the search for devices;
the command trains a small VAE on `digits`, whose data is prepared, and its first step
is where its first line of progress comes. An edition is another checkout.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

ROOT = Path(__file__).parents[2]
IMPORTS = """
import flax.linen, jax, numpyro.distributions, optax, orbax.checkpoint, tyro
jax.devices()
print("step", flush=True)
"""


def seconds_to(command: list[str], text: str, home: Path) -> float:
    """Seconds until the command prints a line that begins with `text`."""
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(home)},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(text):
                found = time.perf_counter() - start
                process.kill()
                return found
    raise RuntimeError(f"{command} printed no line with {text!r}")


def round_of(home: Path) -> tuple[float, float]:
    """Seconds of the imports, and those to the first step of an edition."""
    bare = seconds_to([sys.executable, "-c", IMPORTS], "step", home)
    with tempfile.TemporaryDirectory() as folder:
        train = [str(home / "scripts" / "train.py"), "vae", "--dataset", "digits"]
        more = ["--log-every", "1", "--workdir", f"{folder}/run"]
        return bare, seconds_to([sys.executable, *train, *more], "step", home)


def row_of(name: str, found: Sequence[tuple[float, float]]) -> list[str]:
    """The ranges over the rounds of an edition."""
    ratios = [ours / bare for bare, ours in found]
    imports, steps = zip(*found, strict=True)
    return [
        name,
        *(f"{min(each):.1f} to {max(each):.1f}" for each in (imports, steps)),
        f"{min(ratios):.2f} to {max(ratios):.2f}, "
        f"median {statistics.median(ratios):.2f}",
    ]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", type=int)
    parser.add_argument(
        "--edition", nargs=2, action="append", default=[], metavar=("NAME", "FOLDER")
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    homes = {"vaejax": ROOT} | {name: Path(at) for name, at in given.edition}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in homes}
    for number in range(given.rounds + 1):
        for name, home in homes.items():
            turn = round_of(home)
            if number:  # the first round fills the caches of files and programs
                found[name].append(turn)
                print(f"{name}: imports {turn[0]:.2f} s, first step {turn[1]:.2f} s")
    heads = ["edition", "imports", "first step", "ratio"]
    table = MeasuredTable(heads, [row_of(name, each) for name, each in found.items()])
    measured = measured_here([table], "jax")
    keep_measured(given.out, "start", measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
