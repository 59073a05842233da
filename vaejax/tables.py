"""Tables to fill: read, handed to a model in its units, and written as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.data.arrays import read_npz
from vaejax.data.checks import check_finite, check_mask, check_x
from vaejax.data.dataset import Spec
from vaejax.data.schema import numbers_of, read_csv, text_of
from vaejax.data.units import in_units, standardized
from vaejax.errors import InputError


class Holey(NamedTuple):
    """Examples with holes in the model's units, and how filled ones are written."""

    x: np.ndarray
    mask: np.ndarray
    write: Callable[[np.ndarray, Path], None]


def open_holey(path: Path, spec: Spec) -> Holey:
    """Reads a `.csv` or `.npz` like the data that a model was trained on.

    InputError where it is neither, or holds other columns.
    """
    if path.suffix == ".csv":
        return open_csv(path, spec)
    if path.suffix == ".npz":
        return open_npz(path, spec)
    raise InputError(f"--input {path}: the name must end in .csv or .npz")


def open_csv(path: Path, spec: Spec) -> Holey:
    """A table as text, whose filled cells alone are written anew."""
    if not spec.columns:
        raise InputError(f"{path}: the model was trained on {spec.name}, not on a csv:")
    texts = read_csv(path)
    x = numbers_of(texts, spec.columns, str(path))
    check_finite(x, str(path))
    mask = ~np.isnan(x)

    def write(filled: np.ndarray, out: Path) -> None:
        import pandas as pd

        values = in_units(filled, spec)
        cells = {name: column.copy() for name, column in texts.items()}
        for place, column in enumerate(spec.columns):
            for row in np.flatnonzero(~mask[:, place]):
                cells[column.name][row] = text_of(values[row, place], column)
        pd.DataFrame(cells).to_csv(out, index=False)

    return Holey(standardized(x, spec), mask, write)


def open_npz(path: Path, spec: Spec) -> Holey:
    """The array `x` (or `x_train`), and where there is one `mask` (or `mask_train`)."""
    arrays = read_npz(path)
    x = arrays.get("x", arrays.get("x_train"))
    if x is None:
        raise InputError(f"{path} has no array x: it has {', '.join(arrays)}")
    whole = x[..., None] if spec.kind == "image" and x.ndim == 3 else x
    if whole.shape[1:] != spec.shape:
        raise InputError(
            f"{path} holds examples {whole.shape[1:]}: the model's are {spec.shape}"
        )
    check_x(x, f"x of {path}")
    mask = arrays.get("mask", arrays.get("mask_train", np.ones(x.shape, bool)))
    check_mask(mask, x, f"mask of {path}")
    mask = (mask == 1) & ~np.isnan(x)
    # Images of two levels are 0 and 1, or 0 and 255.
    top = 255 if spec.levels == 256 else max(1, int(np.nanmax(x)))

    def write(filled: np.ndarray, out: Path) -> None:
        values = np.clip(filled, 0, 1) * top
        values = values if spec.kind == "image" else in_units(filled, spec)
        whole_numbers = np.issubdtype(x.dtype, np.integer)
        values = np.rint(values) if whole_numbers else values
        values = values.reshape(x.shape).astype(x.dtype)
        np.savez_compressed(out, x=np.where(mask, x, values))

    if spec.kind == "image":
        return Holey(whole.astype(np.float32) / top, mask.reshape(whole.shape), write)
    return Holey(standardized(x, spec), mask, write)
