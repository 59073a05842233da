"""The program `report`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, parse


def main(workdirs: parse.Workdirs, out: Path | None = None) -> None:
    """Writes a page of HTML that loads nothing: open it in any browser.

    One run: configuration, versions, curves, pictures, timing and metrics with their
    standard errors. Several: what differs, metrics side by side, curves in one panel.

    Args:
      workdirs: folders of runs; that of a study stands for its replicas.
      out: where to write; by default report.html in the folder of the run or the study,
        and in the current folder where several are given.
    """
    commands.report_runs(workdirs, out)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
