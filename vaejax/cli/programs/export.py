"""The program `export`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import parse
from vaejax.export.write import export


def main(workdir: parse.Workdir, out: Path, samples: int = 1000) -> None:
    """Exports a trained model's functions for CPU, CUDA and TPU.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      out: folder to write, empty or not there.
      samples: importance samples of log_likelihood.
    """
    export(workdir, out, samples)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
