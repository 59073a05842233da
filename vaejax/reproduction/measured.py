"""Tables that a study measured, as one JSON file, which the results' page shows."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.errors import InputError
from vaejax.reproduction.outcome import FORMAT, keep_known, place_of_row
from vaejax.runtime.environment import source, versions
from vaejax.runtime.jsonlines import read_object

RESULTS = Path(__file__).parents[2] / "results" / "rows"
"""Where the studies of a checkout keep what they measured."""


class MeasuredTable(NamedTuple):
    """A table of words, and the paragraph above it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text: str = ""


@dataclasses.dataclass(frozen=True)
class MeasuredTables:
    """The tables of a measurement, and what they were made with.

    `headline` is what the README says of them; empty where it says nothing.
    """

    tables: tuple[MeasuredTable, ...]
    commit: str = ""
    tree: str = ""
    machine: str = ""
    date: str = ""
    headline: str = ""

    @property
    def made(self) -> str:
        """Commit, machine and date, as far as they are known."""
        changed = ", changed" if self.tree == "changed" else ""
        short = self.commit[:7] if len(self.commit) == 40 else self.commit
        commit = f"{short}{changed}" if short else ""
        return ", ".join(part for part in (commit, self.machine, self.date) if part)


def measured_here(tables: Sequence[MeasuredTable], *packages: str) -> MeasuredTables:
    """Tables that were made now, by this checkout on this machine.

    Args:
      tables: what was measured.
      packages: those that the numbers depend on; `made` names their versions.
    """
    from vaejax.data.streaming import cores

    system = f"{platform.system()} {platform.machine()}"
    known = [f"{name} {versions()[name]}" for name in packages if name in versions()]
    return MeasuredTables(
        tuple(tables),
        commit=source().get("commit", ""),
        tree=source().get("tree", ""),
        machine=", ".join([f"{cores()} cores, {system}", *known]),
        date=datetime.date.today().isoformat(),
    )


def keep_measured(folder: Path, name: str, measured: MeasuredTables) -> Path:
    """Writes the file of a measurement; what is not known is left out."""
    tables = [
        {name: part for name, part in table._asdict().items() if part}
        for table in measured.tables
    ]
    fields = dataclasses.asdict(measured) | {"tables": tables}
    return keep_known(folder, name, fields)


def read_measured(folder: Path, name: str) -> MeasuredTables | None:
    """The content of a measurement's file; None where it was not made.

    Raises:
      InputError: the file is not one of ours.
    """
    path = place_of_row(folder, name)
    if not path.exists():
        return None
    found = read_object(path)
    tables = found.pop("tables", None)
    fields = {field.name for field in dataclasses.fields(MeasuredTables)}
    if (
        found.pop("format", 0) != FORMAT
        or not set(found) <= fields
        or not all(isinstance(value, str) for value in found.values())
        or not isinstance(tables, list)
        or not all(is_table(table) for table in tables)
    ):
        raise InputError(f"{path} is damaged: measure it again, or restore it by git")
    return MeasuredTables(tuple(MeasuredTable(**table) for table in tables), **found)


def is_table(value: Any) -> bool:
    """Whether it is a table of words, as wide in each row as in its head."""

    def words(cells: Any) -> bool:
        return isinstance(cells, list) and all(isinstance(one, str) for one in cells)

    if not isinstance(value, Mapping) or not value.keys() <= {*MeasuredTable._fields}:
        return False
    head, rows = value.get("columns"), value.get("rows")
    if not words(head) or not isinstance(rows, list):
        return False
    alike = all(words(row) and len(row) == len(head or ()) for row in rows)
    return alike and isinstance(value.get("text", ""), str)


def print_measured(measured: MeasuredTables) -> None:
    """Prints the tables, as they stand in the results' page."""
    from vaejax.reproduction.pages import markdown_table

    for table in measured.tables:
        print(*[f"{table.text}\n"] if table.text else [], sep="\n")
        print(*markdown_table([table.columns, *table.rows]), sep="\n")
