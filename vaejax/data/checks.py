"""Checks of arrays: every function passes or raises an `InputError`."""

from typing import Any

import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.errors import InputError

ARRAYS = (
    "x_train",
    "y_train",
    "x_test",
    "y_test",
    "mask_train",
    "mask_test",
    "factors_train",
    "factors_test",
)
KEYS = (*ARRAYS, "columns", "factor_names")


def array_of(value: Any, what: str) -> np.ndarray:
    """A user's value as an array; InputError where it cannot be one."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{what} is no array: its rows differ in length") from None
    except TypeError:  # keys of JAX
        raise InputError(f"{what} is no array: give numbers or texts") from None
    # Small floats of JAX have the kind of records, but are none.
    if issubclass(array.dtype.type, np.void):
        raise InputError(f"{what} holds records, {array.dtype}: give a plain array")
    return array


def check_keys(arrays: Arrays, name: str) -> None:
    """Which arrays there are: `x_train` at least, and labels of all splits or none."""
    unknown = sorted(set(arrays) - set(KEYS))
    if unknown:
        allowed = ", ".join(KEYS)
        raise InputError(f"{name!r} has unknown keys {unknown}: allowed are {allowed}")
    if "x_train" not in arrays:
        raise InputError(f"{name!r} has no x_train: it holds the training examples")
    for key in ("y_test", "mask_test", "factors_test"):
        if key in arrays and "x_test" not in arrays:
            raise InputError(f"{name!r} has {key} but no x_test: give both or neither")
    if "x_test" in arrays and ("y_train" in arrays) != ("y_test" in arrays):
        raise InputError(f"{name!r} labels one split only: give y_train and y_test")
    pair = [f"factors_{split}" in arrays for split in ("train", "test")]
    if pair[0] != pair[1] and (pair[1] or "x_test" in arrays):
        raise InputError(
            f"{name!r} has factors of one split only: give factors_train and "
            "factors_test"
        )
    if "factor_names" in arrays and not pair[0]:
        raise InputError(f"{name!r} names factors and has no factors_train")


def check_x(x: np.ndarray, what: str) -> None:
    """Images `[N, H, W]` or `[N, H, W, C]`, or numbers `[N, D]`.

    The pixels of images are for `vaejax.data.levels.levels_by` to check.
    """
    check_rank(x, what)
    if x.ndim == 2:
        check_table(x, what)


def check_rank(x: np.ndarray, what: str) -> None:
    """Examples as images or as a table's rows, at least one."""
    if x.size == 0:
        raise InputError(f"{what} is empty, shape {x.shape}: give at least one example")
    if x.ndim not in (2, 3, 4):
        raise InputError(
            f"{what} has shape {x.shape}: give images as [N, H, W] or "
            "[N, H, W, C], tables as [N, D]"
        )


def check_table(x: np.ndarray, what: str) -> None:
    """Finite numbers `[N, D]`, or NaN."""
    if x.dtype == np.uint8:
        raise InputError(
            f"{what} is uint8 of rank 2: reshape images to [N, H, W], "
            "or make a table's numbers floats"
        )
    if x.dtype.kind not in "fiu" or x.dtype.itemsize > 8:
        hint = "use float16, float32, float64 or integers"
        raise InputError(f"{what} has dtype {x.dtype}: {hint}")
    check_no_infinity(x, what)


def check_alike(train: np.ndarray, test: np.ndarray, name: str) -> None:
    """Examples of one shape and dtype in both splits."""
    for field, a, b in (
        ("shape", train.shape[1:], test.shape[1:]),
        ("dtype", train.dtype, test.dtype),
    ):
        if a != b:
            raise InputError(
                f"{name!r}: x_test differs from x_train in {field} ({b} and {a})"
            )


def check_mask(mask: np.ndarray, x: np.ndarray, what: str) -> None:
    """Ones and zeros in the shape of the examples."""
    if mask.shape != x.shape:
        raise InputError(f"{what} has shape {mask.shape}: the examples' is {x.shape}")
    if not np.isin(mask, (0, 1)).all():
        raise InputError(f"{what} must be 1 where an entry is observed, else 0")


def check_no_infinity(x: np.ndarray, what: str) -> None:
    """A table without infinities; NaN is a hole."""
    if x.dtype.kind == "f" and np.isinf(x).any():
        raise InputError(f"{what} has infinite values: replace or drop them")
