"""The program `report`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands, parse
from vaejax.errors import InputError


def main(workdirs: parse.Workdirs, out: Path | None = None) -> None:
    """Writes a page of HTML about a run, which loads nothing: open it in any browser.

    It shows the run's card (settings, data, versions, devices, numbers with their
    errors), curves and pictures. compare.py writes a page about several runs.

    Args:
      workdirs: folder of a run, or of a study, whose runs are shown side by side.
      out: where to write; by default report.html in that folder.
    """
    if len(workdirs) != 1:
        hint = "several are compared by compare.py" if workdirs else "give its folder"
        raise InputError(f"a report is of one run or study: {hint}")
    commands.report_run(workdirs[0], out)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
