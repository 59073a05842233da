"""Seconds from the command to its first step, against bare imports, in turn:
python tests/studies/start.py 5

The imports are those of the packages that a training needs, and the search for devices;
the command trains a small VAE on `digits`, whose data is prepared, and its first step
is where its first line of progress comes.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTS = """
import flax.linen, jax, numpyro.distributions, optax, orbax.checkpoint, tyro
jax.devices()
print("step", flush=True)
"""


def seconds_to(command: list[str], text: str) -> float:
    """Seconds until the command prints a line that begins with `text`."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(text):
                found = time.perf_counter() - start
                process.kill()
                return found
    raise RuntimeError(f"{command} printed no line with {text!r}")


def main(rounds: int) -> None:
    ratios = []
    for number in range(rounds + 1):
        bare = seconds_to([sys.executable, "-c", IMPORTS], "step")
        with tempfile.TemporaryDirectory() as folder:
            train = [str(ROOT / "scripts" / "train.py"), "vae", "--dataset", "digits"]
            more = ["--log-every", "1", "--workdir", f"{folder}/run"]
            ours = seconds_to([sys.executable, *train, *more], "step")
        if number:  # the first round fills the caches of files and programs
            ratios.append(ours / bare)
            print(f"imports {bare:.2f} s, first step {ours:.2f} s: {ratios[-1]:.2f}")
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
