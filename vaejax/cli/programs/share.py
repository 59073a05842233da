"""The program `share`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, parse


def main(
    workdir: parse.Workdir,
    out: Path,
    pictures: bool = True,
    license: str = "",
    push: str = "",
) -> None:
    """Writes a trained model to a folder that vaejax.load reads without the data.

    The folder holds parameters (safetensors), configuration, the run's card and a model
    card. No path of this machine is in it; names of columns and classes are.

    Args:
      workdir: folder of the run.
      out: folder to write, empty or not there.
      pictures: draw pictures for the model card; they show examples of the data.
      license: license of the model, as the Hugging Face hub names it (apache-2.0).
      push: OWNER/NAME on the Hugging Face hub to upload the folder to.
    """
    from vaejax.sharing.write import share  # loads matplotlib for pictures

    commands.keep_compiled()
    share(workdir, out, pictures, license, push)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
