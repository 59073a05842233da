"""Arrays that are not plain: masked ones of NumPy, sparse matrices of SciPy."""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vaejax.errors import InputError


def unmasked(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Plain arrays by key: masked entries of `x_...` become holes in `mask_...`.

    Raises:
      InputError: labels or masks are masked arrays, or a sparse matrix does not fit in
        memory once dense.
    """
    found = {key: densify(a, key) for key, a in arrays.items()}
    for key in [key for key, a in found.items() if np.ma.isMaskedArray(a)]:
        array = found[key]
        if not key.startswith("x_"):
            raise InputError(f"{key} is a masked array: leave out what has no {key}")
        found[key], observed = apart(array)
        if not observed.all():
            other = key.replace("x_", "mask_")
            known = np.asarray(found.get(other, observed))
            if known.shape != observed.shape:
                continue  # said later, with both shapes
            found[other] = (known == 1) & observed
    return found


def apart(array: np.ma.MaskedArray) -> tuple[np.ndarray, np.ndarray]:
    """The data, 0 where they are masked, and bool of the same shape: not masked."""
    observed = ~np.ma.getmaskarray(array)
    return np.where(observed, np.ma.getdata(array), 0).astype(array.dtype), observed


def with_nan(x: Any) -> Any:
    """A masked array as float64 with NaN where it is masked; else `x` itself."""
    if not np.ma.isMaskedArray(x):
        return x
    data, observed = apart(x)
    return np.where(observed, data.astype(np.float64), np.nan)


def densify(x: Any, what: str) -> Any:
    """A sparse matrix made dense; else `x` itself.

    InputError where it would take more than half of the machine's memory.
    """
    if not (hasattr(x, "toarray") and hasattr(x, "nnz")):
        return x
    size = math.prod(x.shape) * max(8, x.dtype.itemsize)  # float64 of a table
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory / 2:
        raise InputError(
            f"{what} is sparse, and dense it takes {size / 2**30:,.1f} GiB, of "
            f"{memory / 2**30:,.1f} GiB in this machine: give fewer columns or rows"
        )
    return x.toarray()
