"""The program `reproduce`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vaejax.cli import parse, reproducing


def main(
    rows: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="ROW [ROW ...]", help_behavior_hint=""),
    ],
    seeds: int = 0,
    budget: Literal["full", "truncated"] = "full",
    runs: Path = Path("runs/reproduce"),
    out: Path = Path("results/rows"),
    tables: Path | None = None,
) -> None:
    """Makes published numbers again: trains, measures, writes and prints each row.

    Args:
      rows: rows or groups of rows; list prints them all.
      seeds: seeds to train, from 0; 0 is the number that the row names.
      budget: full is the paper's schedule or ours in its place; truncated is shorter.
      runs: folder of the runs, which resume; a run that is measured is not made again.
      out: folder for ROW.json.
      tables: .npz with the arrays banknote, concrete, red, white and yeast [N, D],
        without targets, which the tables of missing data need.
    """
    if rows == ("list",):
        reproducing.print_rows(out)
        return
    reproducing.reproduce_rows(rows, seeds, budget, runs, out, tables)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
