"""Texts that are no categories: what they look like, and how they can be read."""

import re
from collections.abc import Sequence

import numpy as np

from vaejax.data.dialect import TextTable
from vaejax.data.numerals import HOLES, ZEROS, is_percent, number, pattern_of, quoted
from vaejax.errors import InputError

MOST = 100
"""Different texts of a category; more are names of rows."""
_LOOKS = (
    (r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}.*", "dates: write them as 2020-01-31"),
    (r"[+-]?\d+[.,]?\d*\s*[^\d\s].*", "numbers with units: write the number alone"),
    (r".*[,;\t|].*[,;\t|].*", "whole rows: say --separator"),
    (r"\S+( +\S+)+", "words: if blanks separate fields, write tabs or commas"),
)


def check_categories(name: str, distinct: Sequence[str], rows: int) -> None:
    """InputError where a column of texts holds names of rows, or nothing but NA."""
    if len(distinct) == 1 and distinct[0].strip() in HOLES:
        raise InputError(
            f"column {quoted(name)} holds nothing but {quoted(distinct[0])}: if that "
            "is a hole, list the column in --ignore, if it is a text, in --categories"
        )
    if len(distinct) <= min(MOST, max(2, rows // 2)):
        return
    if zeros := [text for text in distinct if ZEROS.fullmatch(text.strip())]:
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
    strange = [t for t in odd if number(t, other) is not None and t.strip()]
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
