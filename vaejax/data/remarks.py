"""Lines about the table that a run reads: how, which columns, and what is odd."""

from collections.abc import Iterator, Sequence

import numpy as np

from vaejax.data.dialect import Csv
from vaejax.data.header import header_remarks
from vaejax.data.numerals import text_of
from vaejax.data.spec import Column, Dialect, Spec

SHOWN = 30
"""Columns that are listed at the start of a run; all are in the report."""


def remarks_of(
    dialect: Dialect, asked: Csv, columns: Sequence[Column], x: np.ndarray
) -> tuple[str, ...]:
    """Remarks on reading a file, and warnings: of names, and of columns that count.

    InputError where the names are a row.
    """
    told = asked._asdict()
    read = [
        f"{name} {value!r}{'' if told[name] != 'auto' else ' (found)'}"
        for name, value in dialect._asdict().items()
        if name in ("separator", "decimal", "encoding")
    ]
    lines = [f"read as CSV: {', '.join(read)}"]
    if dialect.ignore:
        lines.append(f"ignored columns: {', '.join(map(repr, dialect.ignore))}")
    names = [column.name for column in columns]
    lines += header_remarks(dialect, columns)
    lines += [
        f"warning: column {name!r} counts the rows: an index tells nothing of other "
        f"columns; leave it out by --ignore {name or repr('')}"
        for name, values in zip(names, x.T, strict=True)
        if counts_rows(values)
    ]
    return tuple(lines)


def counts_rows(values: np.ndarray) -> bool:
    """Whether a column is 0, 1, ..., N - 1 or 1, 2, ..., N."""
    start = values[0]
    return (
        len(values) > 2
        and start in (0, 1)
        and np.array_equal(values, start + np.arange(len(values)))
    )


def column_rows(columns: Sequence[Column]) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, values or range, and share missing of each column."""
    for column in columns:
        kind = "date" if column.form.startswith("%Y") else column.kind
        missing = "" if column.missing is None else f"{column.missing:.1%}"
        yield column.name, kind, contents(column), missing


def contents(column: Column) -> str:
    """The values of a column, or its least and largest."""
    if column.values:
        shown = ", ".join(value[:20] for value in column.values[:6])
        more = len(column.values) - 6
        return shown + (f", and {more} more" if more > 0 else "")
    scale = column.limits[-1] - column.limits[0] if column.limits else 0.0
    low_high = [text_of(value, column, scale) for value in column.limits]
    return " to ".join(dict.fromkeys(low_high))


def table_introduction(spec: Spec) -> list[str]:
    """The lines at the start of a run on a table with known columns."""
    if not spec.columns:
        return list(spec.remarks)
    rows = [("column", "kind", "values or range", "missing")]
    rows += [*column_rows(spec.columns[:SHOWN])]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    rest = len(spec.columns) - SHOWN
    more = [f"and {rest} more columns: config.json lists all"] if rest > 0 else []
    return [*spec.remarks, *lines, *more]
