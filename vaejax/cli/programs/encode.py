"""The program `encode`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands_data, parse


def main(
    workdir: parse.Workdir,
    input: Path,
    out: Path,
    batch_size: int = 500,
    seed: int = 0,
) -> None:
    """Encodes the examples of a file: means and deviations of q(z | x), row by row.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      input: .csv with the columns that were trained on, .npz with x and, where the
        model wants them, labels y and a mask, in the data's own units; or a folder of
        pictures, which are taken in the order of their names.
      out: .csv with columns mean_0, ..., scale_0, ..., or .npz with mean and scale; and
        label, where the file has labels.
      batch_size: examples at a time.
      seed: seed of the noise of preprocessing (images that are binarized).
    """
    commands_data.encode_file(workdir, input, out, batch_size, seed)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
