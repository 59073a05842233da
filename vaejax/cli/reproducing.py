"""The main of the program that makes rows of the results again."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vaejax.cli.commands import keep_compiled
from vaejax.reproduction.catalogue import Budget, Row, catalogue
from vaejax.reproduction.execute import Places, reproduce
from vaejax.reproduction.outcome import place_of_row, read_outcome, verdict
from vaejax.reproduction.pages import shown, with_unit
from vaejax.runtime.storage import check_folder


def print_rows(out: Path) -> None:
    """A line for each row: its number as published and ours, and what it is of."""
    from rich.table import Table

    from vaejax.runtime.terminal import console

    every = catalogue()
    for group in every.groups.values():
        if not group.rows:
            continue
        table = Table("row", "number", "published", "ours", "source", title=group.title)
        for row in group.rows.values():
            found = read_outcome(out, row.name)
            published = f"{row.published} [{row.label}]" if row.published else ""
            source = source_words(row)
            ours = "" if found is None else shown(found)
            table.add_row(row.name, with_unit(row), published, ours, source)
        console(sys.stdout, width=160).print(table)
    for one in every.measurements.values():
        print(f"{one.name}: {one.command or 'noted by hand'}")


def source_words(row: Row) -> str:
    """Paper, table and cell, the protocol, and what else is said of the source."""
    place = ", ".join(part for part in (row.paper, row.table, row.cell) if part)
    return ". ".join(part for part in (place, row.protocol, row.source) if part)


def reproduce_rows(
    names: Sequence[str],
    seeds: int,
    budget: Budget,
    runs: Path,
    out: Path,
    tables: Path | None,
) -> None:
    """Makes the rows one after another, each kept as soon as it is done."""
    check_folder(out)
    every, places = catalogue(), Places(runs, out, tables)
    chosen = every.chosen(tuple(names))
    keep_compiled()
    for row in chosen:
        outcome = reproduce(row, every, places, seeds=seeds, budget=budget)
        beside = f", published {row.published} [{row.label}]" if row.published else ""
        said = verdict(row, outcome)
        print(
            f"{row.name}: {with_unit(row)} {shown(outcome)}, seeds {outcome.seeds}, "
            f"{outcome.budget}{beside}{f': {said}' if said else ''}"
        )
        print(f"wrote {place_of_row(out, row.name)}")
