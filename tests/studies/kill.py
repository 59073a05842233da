"""Kills runs at random moments and compares what their reruns end with, bit for bit.

    python tests/studies/kill.py kills --kills 20
    python tests/studies/kill.py kills_games --kills 5

Each trial starts `scripts/train.py` in a fresh workdir, sends SIGKILL at a random
moment of its life, runs the same command again to its end, and compares parameters,
optimizer, average and metrics with those of a run that nothing disturbed.
"""

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from vaejax import load
from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"
GAME = """
    --dataset digits --hidden 32 --latents 4 --epochs 60 --batch-size 64 --log-every 20
    --evaluate-every 5 --checkpoint-every 20
"""
SETTINGS = {
    "kills": [
        """vae --epochs 40 --ema 0.99 --schedule linear --warm-up 10 --log-every 25
        --evaluate-every 2 --checkpoint-every 25"""
    ],
    "kills_games": [
        f"{name} {GAME}" for name in ("wgan_gp", "vaegan --ema 0.99", "cvaegan", "ali")
    ],
}
HEADS = ["run", "killed at, s", "rows left", "checkpoints left", "after the second run"]


def start(settings: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, TRAIN, *settings, "--workdir", folder]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def same(one: Path, other: Path) -> bool:
    (_, a), (_, b) = load(one), load(other)
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    arrays = all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)
    rows = [(folder / "metrics.jsonl").read_bytes() for folder in (one, other)]
    return arrays and rows[0] == rows[1]


def progress(folder: Path) -> tuple[str, str]:
    """Rows and checkpoints that a killed run left behind."""
    rows = folder / "metrics.jsonl"
    lines = rows.read_bytes().count(b"\n") if rows.exists() else 0
    there = folder / "checkpoints"
    saved = sorted(p.name for p in there.iterdir()) if there.exists() else []
    return str(lines), " ".join(saved) or "none"


def killed(settings: list[str], kills: int, moments: random.Random) -> MeasuredTable:
    """Kills a run as often as asked, each time at another moment."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        start(settings, undisturbed).wait()  # compiles, and prepares the data
        shutil.rmtree(undisturbed)
        began = time.monotonic()
        assert start(settings, undisturbed).wait() == 0
        life = time.monotonic() - began
        for trial in range(kills):
            folder = Path(scratch) / f"trial{trial}"
            process, moment = start(settings, folder), moments.uniform(0, life)
            time.sleep(moment)
            finished = process.poll() is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
            left = progress(folder)
            assert start(settings, folder).wait() == 0
            ending = "identical" if same(folder, undisturbed) else "DIFFERENT"
            when = "after its end" if finished else f"{moment:.2f} of {life:.2f}"
            rows.append([str(trial + 1), when, *left, ending])
            print(*rows[-1], flush=True)
    identical = sum(row[-1] == "identical" for row in rows)
    command = f"`{TRAIN.name} {' '.join(settings)}`"
    return MeasuredTable(HEADS, rows, f"{command}: {identical} of {kills} identical.")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(SETTINGS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    os.environ["JAX_PLATFORMS"] = "cpu"
    moments = random.Random(given.seed)
    tables = [
        killed(shlex.split(settings), given.kills, moments)
        for settings in SETTINGS[given.name]
    ]
    measured = measured_here(tables, "jax")
    keep_measured(given.out, given.name, measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
