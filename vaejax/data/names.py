"""Texts that are no categories: what they look like, and how they can be read."""

import re
from collections.abc import Sequence

import numpy as np

from vaejax.data.dialect import TextTable
from vaejax.data.numerals import (
    HOLES,
    ZEROS,
    is_percent,
    number,
    pattern_of,
    quoted,
    without_percent,
)
from vaejax.errors import InputError

MOST = 100
"""Different texts of a category; more are names of rows."""
_LOOKS = (
    (r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}.*", "dates: write them as 2020-01-31"),
    (r"[+-]?\d+[.,]?\d*\s*[^\d\s].*", "numbers with units: write the number alone"),
    (r".*[,;\t|].*[,;\t|].*", "whole rows: say --separator"),
    (r"\S+( +\S+)+", "words: if blanks separate fields, write tabs or commas"),
)

_CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?"
_ZONED = re.compile(
    rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK} ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?)", re.ASCII | re.I
)
_PARTS = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})(?:[T ,].*)?", re.ASCII)
_MONTH = re.compile(
    r"\d{1,2}[ .-]+(?:jan|feb|m[a\u00e4]r|apr|ma[iy]|ju[nl]|aug|sep|o[ck]t|nov|de[cz])"
    r"[a-z]*[ .,-]+\d{4}(?:[T ,].*)?",
    re.I,
)


def check_categories(name: str, distinct: Sequence[str], rows: int) -> None:
    """InputError where a column of texts holds names of rows, or nothing but NA."""
    if len(distinct) == 1 and distinct[0].strip() in HOLES:
        raise InputError(
            f"column {quoted(name)} holds nothing but {quoted(distinct[0])}: if that "
            "is a hole, list the column in --ignore, if it is a text, in --categories"
        )
    check_dates(name, distinct)
    if len(distinct) <= min(MOST, max(2, rows // 2)):
        return
    if zeros := [text for text in distinct if _padded(text)]:
        raise InputError(
            f"column {quoted(name)} holds {len(distinct)} different texts, as "
            f"{quoted(zeros[0])}: leading zeros make texts of numbers; write them "
            "without, or list the column in --categories or --ignore"
        )
    looks = (hint for form, hint in _LOOKS if re.fullmatch(form, distinct[0], re.S))
    hint = next(looks, "these are names, not categories")
    raise InputError(
        f"column {quoted(name)} holds {len(distinct)} different texts in {rows} cells, "
        f"as {quoted(distinct[0])}: {hint}; or list the column in --categories or "
        "--ignore"
    )


def _padded(text: str) -> bool:
    """Whether a text is a number but for zeros in front."""
    known = (number(text, sign) is not None for sign in ".,")
    return bool(ZEROS.fullmatch(text.strip())) and any(known)


def check_dates(name: str, distinct: Sequence[str]) -> None:
    """InputError where most texts of a column are dates that are not read as such,
    whether or not they repeat.
    """
    hints = [(text, foreign_date(text)) for text in distinct]
    found = [(text, hint) for text, hint in hints if hint]
    if found and 2 * len(found) >= len(distinct):
        text, hint = found[0]
        raise InputError(
            f"column {quoted(name)} holds {quoted(text)}: {hint}, or list the column "
            "in --categories or --ignore"
        )


def foreign_date(text: str) -> str:
    """How a date in another form than ISO 8601, or of a time zone, can be written;
    empty where a text is none.
    """
    text = text.strip()
    if _ZONED.fullmatch(text):
        return (
            "dates with a time zone: bring them to one zone and write them without "
            "it, as 2020-01-31T12:30:00"
        )
    numeric = _PARTS.fullmatch(text)
    days = numeric and _is_day(numeric[1], numeric[3], numeric[4])
    return "dates: write them as 2020-01-31" if days or _MONTH.fullmatch(text) else ""


def _is_day(first: str, middle: str, last: str) -> bool:
    """Whether three numbers are a day, a month and a year in some order.

    Of years with two digits all numbers have two, else it may be a version.
    """
    widths = [len(part) for part in (first, middle, last)]
    if widths != [2, 2, 2] and widths.count(4) != 1:
        return False
    rest = (middle, last) if widths[0] == 4 else (first, middle)
    low, high = sorted(map(int, rest))
    return 1 <= low <= 12 and high <= 31


def check_fields(name: str, distinct: Sequence[str], table: TextTable) -> None:
    """InputError where the cells of a file's only column have fields of their own,
    as many as its name: another sign separates them.
    """
    if len(table.cells) > 1 or not distinct:
        return
    texts = [*distinct, *([name] if table.dialect.header == "first" else [])]
    for sign, called in ((" ", "blanks"), ("^", "'^'"), (":", "':'")):
        single = {text.strip().count(sign) for text in texts}
        runs = {len(text.split(sign)) - 1 for text in map(_squeezed, texts)}
        if min(runs) < 1 or len(runs) > 1:
            continue
        remedy = f"say --separator {sign!r}"
        if len(single) > 1 or single != runs:
            remedy = "write one tab or comma between them"
        raise InputError(
            f"column {quoted(name)} is the only one, and each of its cells, as "
            f"{quoted(distinct[0])}, has {runs.pop() + 1} fields separated by "
            f"{called}: {remedy}, or list the column in --categories"
        )


def _squeezed(text: str) -> str:
    return re.sub(" +", " ", text.strip())


def check_number_like(
    name: str,
    cells: np.ndarray,
    distinct: Sequence[str],
    table: TextTable,
    counts: bool,
) -> None:
    """InputError where some texts of a column are numbers or dates and others not."""
    sign = table.dialect.decimal
    zeros = any(ZEROS.fullmatch(text.strip()) for text in distinct)
    odd = [text for text in distinct if not _like(text, sign)]
    if counts and (odd or zeros):
        odd = odd or [text for text in distinct if ZEROS.fullmatch(text.strip())]
        raise InputError(
            f"column {quoted(name)} of --counts holds the text {quoted(odd[0])}"
        )
    other = "," if sign == "." else "."
    strange = [t for t in odd if number(without_percent(t), other) is not None]
    if strange:
        raise InputError(
            f"column {quoted(name)} holds {quoted(strange[0])}: the file's decimal "
            f"sign is {sign!r}; mend that cell, say --decimal {other}, or list the "
            "column in --categories"
        )
    if len(odd) == len(distinct) or (zeros and not odd):
        return
    odd = odd or _minority(distinct)
    line = table.page.lines[cells.tolist().index(odd[0])]
    raise InputError(
        f"column {quoted(name)} holds numbers and the text {quoted(odd[0])} (line "
        f"{line}): mend or empty that cell, say --missing {quoted(odd[0])} if it is a "
        "hole, or list the column as one of --categories"
    )


def _like(text: str, sign: str) -> bool:
    bare = text.strip().removesuffix("%")
    return number(bare, sign) is not None or bool(pattern_of(text))


def _minority(distinct: Sequence[str]) -> list[str]:
    """The fewest of numbers, shares and dates in one column."""
    kinds = [(is_percent(text), pattern_of(text)) for text in distinct]
    least = min(set(kinds), key=kinds.count)
    return [t for t, kind in zip(distinct, kinds, strict=True) if kind == least]
