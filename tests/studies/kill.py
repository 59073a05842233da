"""Kills runs at random moments and compares what their reruns end with, bit for bit.

    python tests/studies/kill.py --kills 20 --out results/kills.txt
    python tests/studies/kill.py --kills 5 --out results/kills_vaegan.txt vaegan ...

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
from pathlib import Path

import jax
import numpy as np

from vaejax import load

TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"
SETTINGS = shlex.split("""
    vae --epochs 40 --ema 0.99 --schedule linear --warm-up 10 --log-every 25
    --evaluate-every 2 --checkpoint-every 25
""")


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


def progress(folder: Path) -> str:
    """What a killed run left behind."""
    rows = folder / "metrics.jsonl"
    lines = rows.read_bytes().count(b"\n") if rows.exists() else 0
    there = folder / "checkpoints"
    saved = sorted(p.name for p in there.iterdir()) if there.exists() else []
    return f"{lines} rows, checkpoints {' '.join(saved) or 'none'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/kills.txt"))
    options, words = parser.parse_known_args()
    settings = words or SETTINGS
    os.environ["JAX_PLATFORMS"] = "cpu"
    moments = random.Random(options.seed)
    lines = [f"{TRAIN.name} {' '.join(settings)}, killed once and run again"]
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = Path(scratch) / "undisturbed"
        start(settings, undisturbed).wait()  # compiles, and prepares the data
        shutil.rmtree(undisturbed)
        began = time.monotonic()
        assert start(settings, undisturbed).wait() == 0
        life = time.monotonic() - began
        for trial in range(options.kills):
            folder = Path(scratch) / f"trial{trial}"
            process, moment = start(settings, folder), moments.uniform(0, life)
            time.sleep(moment)
            finished = process.poll() is not None
            process.send_signal(signal.SIGKILL)
            process.wait()
            left = progress(folder)
            assert start(settings, folder).wait() == 0
            verdict = "identical" if same(folder, undisturbed) else "DIFFERENT"
            when = "after its end" if finished else f"at {moment:.2f} of {life:.2f} s"
            lines.append(f"{trial + 1:3} killed {when}, leaving {left}: {verdict}")
            print(lines[-1], flush=True)
    identical = sum(line.endswith("identical") for line in lines)
    lines.append(f"{identical} of {options.kills} identical")
    print(lines[-1])
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
