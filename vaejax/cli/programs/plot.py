"""The program `plot`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, parse
from vaejax.runtime.storage import check_folder


def main(
    workdir: parse.Workdir, what: tuple[str, ...] = (), out: Path | None = None
) -> None:
    """Draws pictures of a trained run as PNG files and prints the path of each.

    Args:
      workdir: folder of the run, or of a shared model, or hf://owner/name.
      what: any of curves, samples, reconstructions, interpolation, traversal, manifold,
        latents, classes, labels, attributes, completions, imputations, blocks, layers,
        factors; by default all that apply to the run. After evaluate.py --what also
        nll_over_k, gaps and rate_distortion.
      out: folder for the pictures; WORKDIR/plots by default.
    """
    from vaejax import plots  # loads matplotlib: only when parsing has succeeded

    if out is not None:
        check_folder(out)
    commands.keep_compiled()
    for path in plots.write(workdir, what, out):
        print(path)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
