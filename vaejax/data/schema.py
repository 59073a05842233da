"""Tables of people's own: what their columns hold, texts to numbers and back.

A table is read as text, so that what is observed can be written as it was read.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vaejax.data.checks import check_finite
from vaejax.data.dataset import Column, Dataset, describe
from vaejax.data.splits import TEST_SHARE, cut
from vaejax.data.wanted import wanted
from vaejax.errors import InputError
from vaejax.paths import absolute

MOST = 100
"""Different texts of a category; more are names of rows."""
Texts = np.ndarray
"""`[N]` of str, None where nothing is written."""


def open_csv(
    path: str, counts: Sequence[str] = (), categories: Sequence[str] = ()
) -> Dataset:
    """The data set of a CSV file with a header; empty cells and NaN are holes.

    Columns of numbers are real unless they are listed; texts are categories. InputError
    where a column mixes numbers and texts, or holds too many different texts.
    """
    place = absolute(path)
    texts = read_csv(place)

    def numeric(name: str) -> bool:
        return all(is_number(cell) for cell in set(texts[name]) - {None})

    counts = wanted(counts, list(texts), str(place), numeric)
    categories = wanted(categories, list(texts), str(place))
    columns = tuple(
        column_of(name, cells, counts, categories) for name, cells in texts.items()
    )
    x = numbers_of(texts, columns, str(place))
    check_finite(x, str(place))
    train, test = cut({"x": x}, TEST_SHARE, purpose=0, what=str(place))
    return describe(f"csv:{place}", {"train": train, "test": test}, columns=columns)


def read_csv(place: Path) -> dict[str, Texts]:
    """The cells of every column, as they are written; a blank line is an empty row.

    What pandas takes for missing (nothing, NA, NaN, null, None, ...) is None.
    """
    import pandas as pd

    try:
        # The header is read as a row: pandas would rename columns and invent an index.
        with place.open("rb") as file:
            frame = pd.read_csv(file, dtype=str, header=None, skip_blank_lines=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {place}") from None
    except (ValueError, OSError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"{place} is not a readable CSV file: {why}") from error
    cells = frame.astype(object).where(frame.notna(), None).to_numpy()
    if len(cells) < 2:
        raise InputError(f"{place} holds no rows: give a header and examples below it")
    names = ["" if name is None else name for name in cells[0]]
    if len(set(names)) < len(names):
        raise InputError(f"{place} needs a name of its own for each column: {names}")
    return dict(zip(names, cells[1:].T, strict=True))


def column_of(
    name: str, cells: Texts, counts: Sequence[str], categories: Sequence[str]
) -> Column:
    """What a column of texts holds."""
    there = [cell for cell in cells if cell is not None]
    distinct = sorted(set(there))
    numeric = {cell for cell in distinct if is_number(cell)}
    if name in counts and len(numeric) < len(distinct):
        odd = next(cell for cell in distinct if cell not in numeric)
        raise InputError(f"column {name!r} of --counts holds the text {odd!r}")
    if name in categories or not numeric:
        return category(name, distinct, len(there))
    if len(numeric) < len(distinct):
        odd = next(cell for cell in distinct if cell not in numeric)
        row = cells.tolist().index(odd) + 2  # below the header, counted from 1
        raise InputError(
            f"column {name!r} holds numbers and the text {odd!r} (line {row}): mend or "
            f"empty that cell, or list the column as one of --categories"
        )
    if name in counts:
        return count(name, [float(cell) for cell in distinct])
    values = {float(cell) for cell in distinct}
    if len(values) == 1:
        return Column(name, "constant")
    if values == {0.0, 1.0} and len(distinct) == 2:
        return Column(name, "binary", tuple(sorted(distinct, key=float)))
    return Column(name)


def count(name: str, values: Sequence[float]) -> Column:
    """A column of counts; InputError where some are none."""
    wrong = [value for value in values if not is_count(value)]
    if wrong:
        raise InputError(
            f"column {name!r} of --counts holds {wrong[0]:g}: counts are 0, 1, 2, ..."
        )
    return Column(name, "count")


def is_count(value: float) -> bool:
    """Whether a number is one of 0, 1, 2, ..."""
    return value >= 0 and value.is_integer()


def category(name: str, distinct: Sequence[str], rows: int) -> Column:
    """A column of texts, by their number."""
    if len(distinct) > min(MOST, max(2, rows // 2)):
        raise InputError(
            f"column {name!r} holds {len(distinct)} different texts in {rows} cells: "
            "these are names, not categories; drop the column"
        )
    kind = {0: "real", 1: "constant", 2: "binary"}.get(len(distinct), "category")
    return Column(name, kind, tuple(distinct))


def is_number(text: str) -> bool:
    """Whether a text is a number (and not NaN, however it is spelled)."""
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False


def numbers_of(
    texts: Mapping[str, Texts], columns: Sequence[Column], where: str
) -> np.ndarray:
    """float64 `[N, D]` in the order of `columns`, NaN where nothing is written.

    InputError where columns are missing or unknown, a text stands in a column of
    numbers, or a category is new.
    """
    wanted = [column.name for column in columns]
    missing = [name for name in wanted if name not in texts]
    unknown = [name for name in texts if name not in wanted]
    if missing or unknown:
        raise InputError(
            f"the columns of {where} must be those that were trained on: it lacks "
            f"{missing or 'none'} and has {unknown or 'none'} besides"
        )
    return np.stack([codes(texts[c.name], c, where) for c in columns], axis=1)


def codes(cells: Texts, column: Column, where: str) -> np.ndarray:
    """The numbers of one column; InputError where a cell is none of its values."""
    # Where all values are numbers, 1 and 1.0 are the same.
    alike = float if column.values and all(map(is_number, column.values)) else str
    place = {alike(text): float(n) for n, text in enumerate(column.values)}

    def code(cell: str | None) -> float:
        if cell is None:
            return np.nan
        if not column.values:
            return number(cell)
        known = alike is str or is_number(cell)
        if known and alike(cell) in place:
            return place[alike(cell)]
        raise InputError(
            f"column {column.name!r} of {where} holds {cell!r}, which training did "
            f"not see: it saw {', '.join(column.values)}"
        )

    def number(cell: str) -> float:
        if not is_number(cell):
            raise InputError(
                f"column {column.name!r} of {where} holds the text {cell!r}: it is a "
                "column of numbers"
            )
        if column.kind == "count" and not is_count(float(cell)):
            raise InputError(
                f"column {column.name!r} of {where} holds {cell}: counts are 0, 1, 2, "
                "..."
            )
        return float(cell)

    return np.array([code(cell) for cell in cells], np.float64)


def text_of(value: float, column: Column) -> str:
    """How a number of a column is written: what is learned to float32's precision."""
    if column.values:
        return column.values[int(value)]
    return f"{value:.15g}" if column.kind == "constant" else f"{value:.7g}"
