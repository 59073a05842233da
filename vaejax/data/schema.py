"""Tables of people's own: what their columns hold, texts to numbers and back.

A table is read as text, so that observed cells can be copied unchanged.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vaejax.data.checks import check_no_infinity
from vaejax.data.dataset import Dataset, describe
from vaejax.data.dialect import Csv, Texts, TextTable, read_page
from vaejax.data.names import check_categories, check_fields, check_number_like
from vaejax.data.numerals import (
    EXACT,
    HOLES,
    decimal_of,
    form_of,
    is_grouped,
    quoted,
    value_of,
)
from vaejax.data.remarks import remarks_of
from vaejax.data.spec import Column, Dialect
from vaejax.data.splits import TEST_SHARE, cut
from vaejax.data.wanted import wanted
from vaejax.errors import InputError, nearest
from vaejax.runtime.storage import absolute


def open_csv(
    path: str,
    counts: Sequence[str] = (),
    categories: Sequence[str] = (),
    asked: Csv = Csv(),
) -> Dataset:
    """The data set of a CSV file; empty cells are holes.

    In columns of numbers NA, NaN, null and the other `HOLES` are holes, too; in columns
    of texts they are texts. Columns of numbers are real unless they are listed; texts
    are categories.

    Raises:
      InputError: a column mixes numbers and texts or holds too many different texts, or
        the file can be read in several ways.
    """
    place = absolute(path)
    table = read_csv(place, asked, categories)
    names, sign = list(table.trained), table.dialect.decimal
    holes = {*HOLES, *table.dialect.missing, ""}

    def numeric(name: str) -> bool:
        texts = {text.strip() for text in set(table.cells[name])} - holes
        return form_of(texts, sign) in ("", "whole", "whole.0")

    counted = set(wanted(counts, names, str(place), numeric))
    named = set(wanted(categories, names, str(place)))
    columns = tuple(
        column_of(name, cells, counted, named, table)
        for name, cells in table.trained.items()
    )
    x = numbers_of(table, columns, str(place))
    check_no_infinity(x, str(place))
    train, test = cut({"x": x}, TEST_SHARE, purpose=0, what=str(place))
    found = describe(f"csv:{place}", {"train": train, "test": test}, columns=columns)
    dialect = table.dialect._replace(grouped=bool(grouped_cell(table, columns)))
    remarks = remarks_of(dialect, asked, columns, x)
    spec = found.spec._replace(dialect=dialect, remarks=remarks)
    return found._replace(spec=spec)


def read_csv(place: Path, asked: Csv = Csv(), texts: Sequence[str] = ()) -> TextTable:
    """The cells of every column as they are written.

    Columns `texts` (patterns) have no say in which decimal sign the file has. A last
    column without a name and without cells, as trailing separators make it, is ignored.
    """
    page = read_page(place, asked)
    columns = np.array(page.rows, object).T
    cells = dict(zip(page.names, columns, strict=True))
    dialect = page.dialect
    if page.names[-1] == "" and not any(cells[""]) and len(cells) > 1:
        dialect = dialect._replace(ignore=tuple(dict.fromkeys((*dialect.ignore, ""))))
    check_names(asked.ignore, list(cells), str(place))
    if len(set(dialect.ignore)) == len(cells):
        raise InputError(f"{place} has no column left: --ignore leaves all of them out")
    if asked.decimal == "auto":
        holes = {*dialect.missing, *HOLES, ""}
        told = wanted(texts, list(cells), str(place))
        voting = {
            name: {text for text in set(column) if text.strip() not in holes}
            for name, column in cells.items()
            if name not in {*told, *dialect.ignore}
        }
        decimal = decimal_of(voting, dialect.separator)
    else:
        decimal = asked.decimal
    dialect = dialect._replace(decimal=decimal)
    return TextTable(page._replace(dialect=dialect), cells)


def grouped_cell(table: TextTable, columns: Sequence[Column]) -> str:
    """A cell of a column of numbers with digits grouped by three; empty: none is."""
    sign = table.dialect.decimal
    texts = (t for c in columns if not c.values for t in set(table.cells[c.name]))
    return next((text for text in texts if is_grouped(text, sign)), "")


def column_of(
    name: str,
    cells: Texts,
    counts: Collection[str],
    categories: Collection[str],
    table: TextTable,
) -> Column:
    """The kind of a column of texts, and its values."""
    dialect = table.dialect
    there = [c for c in cells if c.strip() and c not in dialect.missing]
    distinct = sorted(set(there))
    if name in categories:
        return category(name, distinct, cells, len(there), asked=True)
    numeric = [text for text in distinct if text.strip() not in HOLES]
    form = form_of(numeric, dialect.decimal)
    if form is None or not numeric:
        check_number_like(name, cells, distinct, table, name in counts)
        check_fields(name, distinct, table)
        return category(name, distinct, cells, len(there))
    values = {text: value_of(text, form, dialect.decimal) for text in numeric}
    known = {text: value for text, value in values.items() if value is not None}
    missing = float(np.mean([cell not in known for cell in cells]))
    if name in counts:
        return count_column(name, list(known.values()))._replace(
            form=form, missing=missing
        )
    return real(name, known, form)._replace(missing=missing)


def real(name: str, known: Mapping[str, float], form: str) -> Column:
    """A column of numbers: real, constant, or the bits 0 and 1."""
    low, high = min(known.values()), max(known.values())
    if form.startswith("whole") and max(-low, high) >= EXACT:
        odd = max(known, key=lambda text: abs(known[text]))
        raise InputError(
            f"column {quoted(name)} holds {quoted(odd)}: whole numbers from 2^53 on "
            "cannot be told apart in float64; list it in --categories or --ignore"
        )
    if low == high:
        return Column(name, "constant", form=form, limits=(low, high))
    if set(known.values()) == {0.0, 1.0}:
        names = (min((t for t in known if known[t] == v), key=len) for v in (0, 1))
        return Column(name, "binary", tuple(names))
    return Column(name, form=form, limits=(low, high))


def count_column(name: str, values: Sequence[float]) -> Column:
    """A column of counts; InputError where some are none."""
    wrong = [value for value in values if not is_count(value)]
    if wrong:
        raise InputError(
            f"column {name!r} of --counts holds {wrong[0]:g}: counts are 0, 1, 2, ..."
        )
    return Column(name, "count", limits=(min(values), max(values)))


def is_count(value: float) -> bool:
    """Whether a number is one of 0, 1, 2, ..."""
    return value >= 0 and value.is_integer()


def category(
    name: str, distinct: Sequence[str], cells: Texts, rows: int, asked: bool = False
) -> Column:
    """A column of texts, by their number; all are values where it was asked for."""
    if not asked:
        check_categories(name, distinct, rows)
    kind = {0: "real", 1: "constant", 2: "binary"}.get(len(distinct), "category")
    missing = 1 - rows / len(cells)
    return Column(name, kind, tuple(distinct), missing=missing)


def check_names(names: Sequence[str], there: Sequence[str], where: str) -> None:
    """InputError where a column is asked for that is not there."""
    unknown = [name for name in names if name not in there]
    if unknown:
        raise InputError(
            f"{where} has no column {unknown[0]!r}: {nearest(unknown[0], there)}"
        )


def numbers_of(table: TextTable, columns: Sequence[Column], where: str) -> np.ndarray:
    """float64 `[N, D]` in the order of `columns`, NaN where nothing is written.

    InputError where columns are missing or unknown, a text stands in a column of
    numbers, or a category is new.
    """
    texts = table.trained
    names = [column.name for column in columns]
    missing = [name for name in names if name not in texts]
    unknown = sorted(texts.keys() - set(names))
    if missing or unknown:
        raise InputError(
            f"the columns of {where} must be those that were trained on: it lacks "
            f"{missing or 'none'} and has {unknown or 'none'} besides"
        )
    dialect = table.dialect
    return np.stack([codes(texts[c.name], c, where, dialect) for c in columns], axis=1)


def codes(
    cells: Texts, column: Column, where: str, dialect: Dialect = Dialect()
) -> np.ndarray:
    """The numbers of one column; InputError where a cell is none of its values."""
    code = code_of_value if column.values else code_of_number
    known = {
        text: np.nan
        if not text.strip() or text in dialect.missing
        else code(text, column, where, dialect)
        for text in set(cells)
    }
    return np.array([known[cell] for cell in cells], np.float64)


def code_of_value(text: str, column: Column, where: str, dialect: Dialect) -> float:
    """The place of a text among a column's values; where these are different numbers,
    1 and 1.0 are the same.
    """
    if text in column.values:
        return float(column.values.index(text))
    sign = dialect.decimal
    if form_of(column.values, sign) in ("", "whole"):
        if text.strip() in HOLES:
            return np.nan
        numbers = [value_of(value, "", sign) for value in column.values]
        found = value_of(text, "", sign) if form_of([text], sign) is not None else None
        if found in numbers and len(set(numbers)) == len(numbers):
            return float(numbers.index(found))
    saw = ", ".join(column.values)
    raise InputError(
        f"column {quoted(column.name)} of {where} holds {quoted(text)}, which training "
        f"did not see: it saw {saw if len(saw) < 200 else saw[:200] + ' ...'}"
    )


def code_of_number(text: str, column: Column, where: str, dialect: Dialect) -> float:
    """The number of a text; InputError where it is none, or no count."""
    if text.strip() in HOLES:
        return np.nan
    form = column.form if column.form[:1] in ("%", "p") else ""
    found = value_of(text, form, dialect.decimal)
    if found is None:
        wanted = {"%": f"dates like {column.form}", "p": "numbers with a %"}
        raise InputError(
            f"column {quoted(column.name)} of {where} holds the text {quoted(text)}: "
            f"it is a column of {wanted.get(form[:1], 'numbers')}, whose decimal sign "
            f"is {dialect.decimal!r}"
        )
    if column.kind == "count" and not is_count(found):
        raise InputError(
            f"column {quoted(column.name)} of {where} holds {quoted(text)}: counts are "
            "0, 1, 2, ..."
        )
    return found
