"""Arrays of the user's own, from memory or an `.npz` file, checked before use."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaejax.data.archive import read_arrays
from vaejax.data.bits import with_bits
from vaejax.data.checks import (
    ARRAYS,
    array_of,
    check_alike,
    check_keys,
    check_mask,
    check_rank,
    check_table,
)
from vaejax.data.classes import check_y, numbered_labels, of_training, plain
from vaejax.data.dataset import Arrays, Dataset, describe
from vaejax.data.factors import factors_of_arrays
from vaejax.data.holders import unmasked
from vaejax.data.levels import (
    RULES,
    brightness,
    check_layout,
    range_of,
    rule_of,
    take_levels,
)
from vaejax.data.spec import Pixels
from vaejax.data.splits import TEST_SHARE, cut, standardize
from vaejax.data.wanted import check_table_named, names_of, of_arrays
from vaejax.errors import InputError
from vaejax.runtime.storage import absolute

_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    TypeError,  # from a lone .npy array, which has no keys
)


ENTRIES = ("x", "y", "mask", "factors")
"""Names of the arrays that a split can have."""


def from_arrays(
    x_train: Any,
    y_train: np.ndarray | None = None,
    x_test: Any = None,
    y_test: np.ndarray | None = None,
    *,
    mask_train: np.ndarray | None = None,
    mask_test: np.ndarray | None = None,
    factors_train: np.ndarray | None = None,
    factors_test: np.ndarray | None = None,
    factor_names: Sequence[str] = (),
    columns: Sequence[str] = (),
    counts: Sequence[str] = (),
    name: str = "arrays",
) -> Dataset:
    """A data set of arrays in memory.

    Args:
      x_train: `[N, H, W]` or `[N, H, W, C]` for images, numbers `[N, D]` for tables,
        where NaN is a hole, and so is what an array of `numpy.ma` masks. Images are
        uint8, or become 256 levels by a rule of dtype and range that the run states
        (`vaejax.data.levels`). A sparse matrix of SciPy is made dense.
      y_train: labels `[N]`: whole numbers, texts or truth values. Classes are those of
        the training split, and keep their names. -1 is no label, for the presets that
        learn from such examples, too; then `x_test` and `y_test` are needed.
      x_test: examples of the test split, like `x_train`; without, a fixed 10 % is held
        out.
      y_test: their labels.
      mask_train: of the shape of `x_train`, 1 where an entry is observed.
      mask_test: the same of `x_test`.
      factors_train: the known factors of variation of each example, whole numbers from
        0 on, `[N, F]`.
      factors_test: the same of `x_test`.
      factor_names: names of these factors; factor_0, factor_1, ... by default.
      columns: names of a table's columns; 0, 1, ... by default.
      counts: columns whose numbers are counts: names, patterns as `g*`, or `all`.
      name: what it is called in `config.json`.

    Returns:
      What presets take as `dataset`; a table is standardized by its training split.

    Raises:
      InputError: an array has another shape, type or range than these, or does not fit
        the others.
    """
    masks, factors = (mask_train, mask_test), (factors_train, factors_test)
    all_of = (x_train, y_train, x_test, y_test, *masks, *factors)
    given = dict(zip(ARRAYS, all_of, strict=True))
    there = {key: a for key, a in given.items() if a is not None}
    arrays = {key: array_of(a, key) for key, a in unmasked(there).items()}
    if listed := names_of(columns, "columns"):
        arrays["columns"] = np.array(listed)
    if listed := names_of(factor_names, "factor_names"):
        arrays["factor_names"] = np.array(listed)
    return standardize(of_training(with_bits(check_arrays(arrays, name, counts))))


def open_npz(path: str, counts: Sequence[str] = ()) -> Dataset:
    """The arrays of a file, under the keys of `from_arrays`; tables in their units."""
    place = absolute(path)
    return check_arrays(read_npz(place), f"npz:{place}", counts)


def read_npz(place: Path) -> Arrays:
    """The arrays of a file; InputError where it is none."""
    try:
        return read_arrays(place)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {place}") from None
    except _UNREADABLE as error:
        hint = "write one with np.savez(path, x_train=...), without object arrays"
        raise InputError(f"{place} is not a readable .npz file: {hint}") from error


def check_arrays(arrays: Arrays, name: str, counts: Sequence[str] = ()) -> Dataset:
    """A data set of arrays by key, checked; tables in their own units, labels as the
    numbers that are stored.
    """
    check_keys(arrays, name)
    train, test = _pair(arrays, "train"), _pair(arrays, "test")
    _check_examples(train, test, name)
    for split, pair in (("train", train), ("test", test)):
        if "y" in pair:
            pair["y"] = plain(pair["y"])
            what, partly = f"y_{split} of {name!r}", split == "train"
            check_y(pair["y"], len(pair["x"]), what, partly)
        if "mask" in pair:
            check_mask(pair["mask"], pair["x"], f"mask_{split} of {name!r}")
    named = names_of(arrays.get("factor_names"), "factor_names")
    factors = factors_of_arrays((train, test), named, repr(name))
    listed = names_of(arrays.get("columns"), "columns")
    counted = names_of(counts, "counts")
    check_table_named(train["x"], listed, counted, repr(name))
    taken, pixels = _to_levels(train, test, name)
    if not test:
        check_all_labelled(train, name)
        train, test = cut(train, TEST_SHARE, purpose=0, what=repr(name))
    splits, names = numbered_labels({"train": train, "test": test})
    columns = of_arrays(splits, listed, counted, repr(name))
    shaped = {key: _shaped(pair) for key, pair in splits.items()}
    found = describe(name, shaped, columns=columns, names=names, factors=factors)
    remarks = tuple(line.format(levels=found.spec.levels) for line in taken)
    return found._replace(spec=found.spec._replace(remarks=remarks, pixels=pixels))


def _check_examples(train: Arrays, test: Arrays, name: str) -> None:
    """InputError where examples have a wrong rank, order of axes, or two shapes."""
    for split, pair in (("train", train), ("test", test)):
        if not pair:
            continue
        x, what = pair["x"], f"x_{split} of {name!r}"
        check_rank(x, what)
        if x.ndim == 2:
            check_table(x, what)
        else:
            check_layout(x, np.size(pair["y"]) if "y" in pair else None, what)
    if test:
        check_alike(train["x"], test["x"], name)


def _to_levels(
    train: Arrays, test: Arrays, name: str
) -> tuple[tuple[str, ...], Pixels | None]:
    """Makes pictures uint8 in place, and says by which rule, or that they are dark;
    `{levels}` stands for how many there are then. Nothing is said of others.
    """
    x, what, observed = train["x"], f"x_train of {name!r}", train.get("mask")
    if x.ndim == 2:
        return (), None
    if x.dtype == np.uint8:
        warning = brightness(x, what, observed)
        return ((warning,) if warning else ()), None
    pixels = Pixels(rule_of(x, what, observed), x.dtype.name)
    rule = RULES[pixels.rule]
    low, high = range_of(x, observed)
    for split, pair in (("train", train), ("test", test)):
        if pair:
            what = f"x_{split} of {name!r}"
            pair["x"] = take_levels(pair["x"], rule, what, pair.get("mask"))
    line = (
        f"pictures of {x.dtype}, {low:g} to {high:g} in training, are taken as "
        f"{{levels}} levels by {rule.code}"
    )
    return (line,), pixels


def check_all_labelled(train: Arrays, name: str) -> None:
    """InputError where examples that are held out to test on may have no label."""
    if "y" in train and train["y"].dtype.kind == "i" and train["y"].min() < 0:
        raise InputError(
            f"{name!r} has examples without a label (y = -1) and no test split: give "
            "x_test and y_test, whose labels are all known"
        )


def _pair(arrays: Arrays, split: str) -> Arrays:
    pair = {key: arrays.get(f"{key}_{split}") for key in ENTRIES}
    return {key: array for key, array in pair.items() if array is not None}


def _shaped(pair: Arrays) -> Arrays:
    """Images of rank 3 have one channel."""
    if pair["x"].ndim != 3:
        return pair
    like_x = ("x", "mask")
    return {k: a[..., None] if k in like_x else a for k, a in pair.items()}
