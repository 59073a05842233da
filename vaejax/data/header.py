"""The line of names of a table: whether it may be a row, in a file without names.

A name is odd where it reads as a cell of its own column: a number over numbers, or one
of the texts below it. One sign alone may be meant, as years are over numbers; two are
a row, which training would lose without a word.
"""

from collections.abc import Sequence

import numpy as np

from vaejax.data.numerals import number, pattern_of, quoted
from vaejax.data.spec import Column, Dialect
from vaejax.errors import InputError


def header_remarks(dialect: Dialect, columns: Sequence[Column]) -> tuple[str, ...]:
    """Warnings of names that may be cells; InputError where they cannot be meant."""
    if dialect.header != "first":
        return ()
    named = [column for column in columns if column.name.strip()]
    names = [column.name for column in columns]
    if all(reads_as_number(column.name) for column in named):
        return (
            f"warning: all names of columns are numbers ({quoted(', '.join(names))}): "
            "if the file has no header, say --header none",
        )
    numbers = [c.name for c in named if reads_as_number(c.name) and not has_texts(c)]
    dates = [c.name for c in named if pattern_of(c.name) and c.form.startswith("%Y")]
    texts = [c.name for c in named if is_own_value(c)]
    # Whole numbers, as years, and those in order, as wavelengths, can be meant.
    broken = [name for name in numbers if not name.strip().isdecimal()]
    broken = [] if monotonic(numbers) else broken
    all_texts = len(texts) == len(named)
    if broken or dates or all_texts or (numbers and texts):
        odd = (broken or dates or texts)[0]
        raise InputError(
            f"the first line ({quoted(', '.join(names))}) reads as a row, not as names "
            f"of columns: over {quoted(odd)} stand cells of its kind; say --header "
            "none, or rename that column"
        )
    return tuple(
        f"warning: the name of column {quoted(name)} may be one of its cells: if the "
        "file has no header, say --header none"
        for name in [*numbers, *texts][:1]
    )


def reads_as_number(text: str) -> bool:
    """Whether a text is a number by either decimal sign."""
    return number(text) is not None or number(text, ",") is not None


def monotonic(names: Sequence[str]) -> bool:
    """Whether three or more numbers go up or down."""
    readings = [[number(name, sign) for sign in ".,"] for name in names]
    steps = np.diff([next(v for v in found if v is not None) for found in readings])
    return len(steps) > 1 and bool((steps > 0).all() or (steps < 0).all())


def has_texts(column: Column) -> bool:
    """Whether cells of a column are texts; those of bits may be 0 and 1."""
    return not all(reads_as_number(value) for value in column.values)


def is_own_value(column: Column) -> bool:
    """Whether the name is one of several texts of the column.

    A column of one text alone may be called by it: a cross in a list of choices.
    """
    several = len(column.values) > 1 and has_texts(column)
    return several and column.name in column.values
