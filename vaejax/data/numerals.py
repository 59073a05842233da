"""Numbers, shares in percent and dates as tables write them: texts to float64 and back.

A file has one decimal sign, a point or a comma; the other one, a space or an apostrophe
may group digits by three.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from vaejax.data.spec import Column
from vaejax.errors import InputError

HOLES = ("NA", "N/A", "#N/A", "n/a", "NaN", "nan", "<NA>", "NULL", "null")
HOLES = (*HOLES, "None", "none")
"""Texts that are holes in columns of numbers, beside empty cells."""
GROUPS = " '’\u00a0\u202f"
EXACT = 2**53
"""Whole numbers below are told apart in float64."""
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:([T ])\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?", re.ASCII)
ZEROS = re.compile(r"[+-]?0\d.*", re.ASCII)
_START = datetime(1970, 1, 1)


def number(text: str, decimal: str = ".") -> float | None:
    """The number that a text is; None where it is none. NaN is none, infinity is one.

    Digits before the decimal sign may be grouped by three.
    """
    text = text.strip().replace("\u2212", "-")
    plain, grouped, infinite = _grammar(decimal)
    if plain.fullmatch(text) or infinite.fullmatch(text):
        return float(text.replace(decimal, "."))
    if grouped.fullmatch(text):
        kept = "".join(c for c in text if c.isdigit() or c in "+-" + decimal)
        return float(kept.replace(decimal, "."))
    return None


@lru_cache
def _grammar(decimal: str) -> tuple[re.Pattern[str], ...]:
    sign, other = re.escape(decimal), "," if decimal == "." else r"\."
    plain = rf"[+-]?(?:\d+{sign}?\d*|{sign}\d+)(?:[eE][+-]?\d+)?"
    grouped = rf"[+-]?[1-9]\d{{0,2}}([{other}{GROUPS}])\d{{3}}(?:\1\d{{3}})*"
    tail = rf"(?:{sign}\d*)?"
    forms = (plain, grouped + tail, r"[+-]?(?:inf|infinity)")
    return tuple(re.compile(form, re.ASCII | re.IGNORECASE) for form in forms)


def is_grouped(text: str, decimal: str) -> bool:
    """Whether a text is a number whose digits are grouped by three."""
    text = without_percent(text).strip().replace("\u2212", "-")
    return bool(_grammar(decimal)[1].fullmatch(text))


def is_percent(text: str) -> bool:
    """Whether a text ends in a percent sign."""
    return text.rstrip().endswith("%")


def without_percent(text: str) -> str:
    """The text before its percent sign."""
    return text.rstrip().removesuffix("%")


def pattern_of(text: str) -> str:
    """How `strftime` writes a date like this one (ISO 8601); empty where it is none."""
    found = DATE.fullmatch(text.strip())
    if not found or seconds(text) is None:
        return ""
    between, second, fraction = found.groups()
    clock = f"{between}%H:%M" if between else ""
    return f"%Y-%m-%d{clock}{':%S' * bool(second)}{'.%f' * bool(fraction)}"


def seconds(text: str) -> float | None:
    """A date as seconds since 1970; None where there is no such day."""
    try:
        return (datetime.fromisoformat(text.strip()) - _START).total_seconds()
    except (ValueError, TypeError):
        return None


def value_of(text: str, form: str, decimal: str) -> float | None:
    """The number that a cell of a column written in this form holds, or None."""
    if form.startswith("%Y"):
        return seconds(text) if pattern_of(text) else None
    if form == "percent":
        return number(without_percent(text), decimal) if is_percent(text) else None
    return number(text, decimal)


def form_of(texts: Iterable[str], decimal: str) -> str | None:
    """How all of these texts are written, as `Column.form`; None: not as numbers.

    Texts with leading zeros are no numbers: the zeros would be lost.
    """
    texts = list(texts)
    if any(ZEROS.fullmatch(text.strip()) for text in texts):
        return None
    dates = {pattern_of(text) for text in texts}
    if len(dates) == 1 and "" not in dates:
        return dates.pop()
    if all(map(is_percent, texts)):
        known = [number(without_percent(text), decimal) for text in texts]
        return None if None in known else "percent"
    values = [number(text, decimal) for text in texts]
    if not values or None in values:
        return None
    if all(value is not None and value.is_integer() for value in values):
        if all(re.search(r"[.,]0$", text.strip()) for text in texts):
            return "whole.0"
        plain = (re.search(r"[eE]", text) for text in texts)
        return "" if any(plain) else "whole"
    return ""


def decimal_of(columns: Mapping[str, set[str]], separator: str) -> str:
    """The decimal sign of a file: the one by which all columns of numbers can be read.

    Args:
      columns: the different texts of each column, without holes.
      separator: of fields.

    Raises:
      InputError: columns contradict each other, or "12,345" may be either number.
    """
    votes: dict[str, tuple[str, str]] = {}
    doubtful: tuple[str, str] | None = None
    for name, texts in columns.items():
        readings = {text: _readings(text) for text in sorted(texts)}
        signs = set(".,").intersection(*readings.values())
        cells = (without_percent(text).strip() for text in readings)
        cell = next(
            (c for c in cells if _signed(c) and number(c) != number(c, ",")), None
        )
        if not texts or cell is None:
            continue
        if len(signs) == 1:
            odd = next(t for t, found in readings.items() if len(found) == 1)
            votes.setdefault(signs.pop(), (name, odd))
        elif signs and ("," in cell or separator != ","):
            doubtful = (name, cell)
    if len(votes) == 2:
        (one, a), (other, b) = votes["."], votes[","]
        raise InputError(
            f"column {quoted(one)} holds {quoted(a)} and column {quoted(other)} "
            f"{quoted(b)}: a file has one decimal sign; mend one of them, or say "
            "--decimal . or --decimal , and list the other in --categories or --ignore"
        )
    if votes:
        return next(iter(votes))
    if doubtful:
        name, cell = doubtful
        raise InputError(
            f"column {quoted(name)} holds {quoted(cell)}, which may be "
            f"{number(cell, ','):.12g} or {number(cell):.12g}: say --decimal , or "
            "--decimal ."
        )
    return "."


def _readings(text: str) -> set[str]:
    """The decimal signs by which a text is a number."""
    text = without_percent(text)
    return {sign for sign in ".," if number(text, sign) is not None}


def _signed(text: str) -> bool:
    return "." in text or "," in text


def quoted(text: object, most: int = 60) -> str:
    """A text in quotation marks, cut where it is long."""
    text = str(text)
    return repr(text if len(text) <= most else f"{text[:most]}...")


def digits_of(value: float, scale: float) -> int:
    """Significant digits to 7 of the scale: what float32 holds of value / scale."""
    if not value or not scale or not math.isfinite(value):
        return 7
    above = math.floor(math.log10(abs(value))) - math.floor(math.log10(abs(scale)))
    return min(17, max(1, 7 + above))


def text_of(
    value: float, column: Column, scale: float = 0.0, decimal: str = "."
) -> str:
    """How a number of a column is written, in the column's own form.

    Args:
      value: in the column's own units; of a category the place of its text.
      column: what it holds.
      scale: the column's deviation, by which digits are chosen; 0 where unknown.
      decimal: the sign of the file.
    """
    if column.values:
        return column.values[int(value)]
    if column.form.startswith("%Y"):
        return _date(value, column.form)
    if column.kind == "count" or column.form.startswith("whole"):
        return f"{round(value)}" + f"{decimal}0" * (column.form == "whole.0")
    # A constant is certain: all digits, without an exponent where they are whole.
    text = f"{value:.{digits_of(value, scale)}g}"
    if column.kind == "constant":
        text = f"{value:.0f}" if value.is_integer() else repr(value)
    return text.replace(".", decimal) + "%" * (column.form == "percent")


def _date(value: float, pattern: str) -> str:
    step = 86400.0 if "%H" not in pattern else 60.0 if "%S" not in pattern else 1.0
    value = value if "%f" in pattern else round(value / step) * step
    least, most = datetime(1, 1, 1), datetime(9999, 12, 31)
    low, high = ((end - _START).total_seconds() for end in (least, most))
    return (_START + timedelta(seconds=min(max(value, low), high))).strftime(pattern)
