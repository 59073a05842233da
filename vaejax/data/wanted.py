"""Columns of a table by their names: one by one, by patterns, or all."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from vaejax.data.checks import array_of
from vaejax.data.dataset import Arrays
from vaejax.data.numerals import quoted
from vaejax.data.spec import Column
from vaejax.errors import InputError

ALL = "all"


def wanted(
    asked: Sequence[str],
    names: Sequence[str],
    where: str,
    numeric: Callable[[str], bool] = lambda name: True,
) -> tuple[str, ...]:
    """The names that are asked for, in the order of the table.

    An exact name is that column, even one called `all` or `a*`; otherwise `all` are
    the columns of numbers (`numeric(name)`) and `a*`, `a?`, `[ab]` patterns as shells
    know them. InputError where something asked for is not there.
    """
    known, found = set(names), set()
    for each in asked:
        some = {each} & known or {name for name in names if fnmatchcase(name, each)}
        if each == ALL and each not in known:
            some = {name for name in names if numeric(name)}
        if not some:
            first = f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
            raise InputError(f"{where} has no column {quoted(each)}: it has {first}")
        found |= some
    return tuple(name for name in names if name in found)


def names_of(value: Any, what: str) -> list[str]:
    """Names as a list: None are none, a text is one; InputError where it is no list."""
    if value is None or isinstance(value, str):
        return [value] if value else []
    array = array_of(value, what)
    if array.ndim != 1:
        raise InputError(f"{what} is no list of names: give one, as in {what}=['a']")
    return [str(name) for name in array]


def of_arrays(
    splits: Mapping[str, Arrays],
    names: Sequence[str],
    counts: Sequence[str],
    where: str,
) -> tuple[Column, ...]:
    """Kinds of the columns of arrays: real numbers, and counts where asked for.

    Without names, columns are called 0, 1, ...; none are listed where nothing is known
    of them.

    Raises:
      InputError: names are not one for each column, a name is unknown, or a count is
        none.
    """
    x = splits["train"]["x"]
    if not len(names) and not counts:
        return ()
    names = [str(name) for name in names] or [str(n) for n in range(x.shape[1])]
    if len(names) != x.shape[1] or len(set(names)) < len(names):
        raise InputError(
            f"{where} has {x.shape[1]} columns and {len(set(names))} different names: "
            "give one for each"
        )
    counted = set(wanted(counts, names, where))
    for arrays in splits.values():
        check_counts(arrays["x"], names, counted, where)
    return tuple(Column(n, "count" if n in counted else "real") for n in names)


def check_table_named(
    x: np.ndarray, names: Sequence[str], counts: Sequence[str], where: str
) -> None:
    """InputError where columns of pictures are named or counted."""
    if x.ndim != 2 and (names or counts):
        raise InputError(f"{where}: names and counts are of columns of a table [N, D]")


def check_counts(
    x: np.ndarray, names: Sequence[str], counted: set[str], where: str
) -> None:
    """InputError where a column of counts holds something else (NaN is a hole)."""
    places = np.array([n for n, name in enumerate(names) if name in counted], int)
    values = np.asarray(x[:, places], np.float64)
    wrong = (values < 0) | (np.floor(values) != values) & ~np.isnan(values)
    if wrong.any():
        row, place = np.argwhere(wrong)[0].tolist()
        name, value = names[int(places[place])], values[row, place]
        raise InputError(
            f"column {name!r} of {where} holds {value:g}: counts are 0, 1, 2, ..."
        )
