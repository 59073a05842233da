"""A run as files that JAX alone runs: python scripts/export.py runs/a --out model"""

from pathlib import Path

from vaejax.cli import parse
from vaejax.export.write import export


def main(workdir: parse.Workdir, out: Path, samples: int = 1000) -> None:
    """Exports a trained model's functions for CPU, CUDA and TPU.

    Args:
      workdir: folder of the run.
      out: folder to write, empty or not there.
      samples: importance samples of log_likelihood.
    """
    export(workdir, out, samples)


if __name__ == "__main__":
    parse.run_script(main)
