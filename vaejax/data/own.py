"""Users' own examples, in the data's units, as a model sees them."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from vaejax.data.checks import array_of, check_mask, check_no_infinity, check_x
from vaejax.data.kinds import kind_of, with_channels
from vaejax.data.levels import levels_by
from vaejax.data.preprocess import Preprocess
from vaejax.data.schema import codes
from vaejax.data.spec import Dialect, Spec
from vaejax.data.units import standardized
from vaejax.errors import InputError
from vaejax.types import Array, Key


def own_inputs(
    x: Any, y: Any, mask: Any, preprocess: Preprocess, spec: Spec, key: Key
) -> dict[str, Array]:
    """Entries `x` and, where there are any, `mask` and `y` of a query's batch.

    Args:
      x: `[N, H, W]` or `[N, H, W, C]` of images, uint8 or on the scale of those of
        training; rows `[N, D]` or a DataFrame of tables, in the columns' own units.
        NaN and what `numpy.ma` masks are holes.
      y: the data's own labels `[N]`, or None.
      mask: like `x`, 1 where observed, or None.
      preprocess: that of the experiment.
      spec: what the model was trained on.
      key: of the noise of preprocessing (binarization, dequantization).

    Raises:
      InputError: the examples are not like those that the model was trained on.
    """
    rows = rows_in_units(x, spec)
    observed = observed_of(x, mask, rows)
    check_codes(rows, observed, spec)
    rows = stored_rows(rows, observed, spec, "x")
    flat = {"x": rows, "mask": observed.astype(np.uint8)}
    raw = {name: jnp.asarray(a.reshape(len(rows), -1)) for name, a in flat.items()}
    if observed.all():
        del raw["mask"]
    batch = preprocess.apply(raw | {"index": jnp.arange(len(rows))}, key)
    found = {name: batch[name] for name in ("x", "mask") if name in batch}
    return found if y is None else found | {"y": label_indices(y, len(rows), spec)}


def stored_rows(
    x: np.ndarray, observed: np.ndarray, spec: Spec, what: str
) -> np.ndarray:
    """Examples in the data's own units as a split has them, in the shape of `x`."""
    kind = kind_of(spec)
    if kind.scaled:
        return levels_of(x, spec, what, observed)
    if kind.standardized:
        return standardized(np.where(observed, x, np.nan), spec)
    if not observed.all():
        raise InputError(f"{what} has holes: give whole maps of codes")
    return checked_code_map(x, spec, what).astype(np.int32)


def checked_code_map(x: np.ndarray, spec: Spec, what: str) -> np.ndarray:
    """The codes; InputError where one is no whole number from 0 to `levels` - 1."""
    if not np.array_equal(x, np.round(x)):  # NaN is not equal to itself
        raise InputError(f"{what} holds fractions: give codes, which are whole numbers")
    low, high = x.min(initial=0), x.max(initial=0)
    if low < 0 or high >= spec.levels:
        raise InputError(
            f"{what} goes from {low:g} to {high:g}: the codes of {spec.name} are 0 to "
            f"{spec.levels - 1}"
        )
    return x


def label_indices(y: Any, count: int, spec: Spec) -> Array:
    """Indices of classes; InputError where there is not one for each example."""
    found = spec.label_index(y)
    if found.shape != (count,):
        raise InputError(f"y has shape {found.shape}: give one label to each example")
    return jnp.asarray(found)


def observed_of(x: Any, mask: Any, rows: np.ndarray) -> np.ndarray:
    """bool like `rows`: neither NaN, nor masked by `numpy.ma`, nor 0 in `mask`."""
    observed = ~np.isnan(rows)
    if np.ma.isMaskedArray(x):
        observed &= ~np.ma.getmaskarray(x).reshape(rows.shape)
    if mask is None:
        return observed
    given = array_of(mask, "mask")
    # Images of one channel need not name it.
    given = given[..., None] if given.shape == rows.shape[:-1] else given
    check_mask(given, rows, "mask")
    return observed & (given == 1)


def rows_in_units(x: Any, spec: Spec) -> np.ndarray:
    """Pixels `[N, *shape]` as they are given, numbers `[N, D]` of tables.

    InputError where they are of another shape or type than the data.
    """
    kind = kind_of(spec)
    x = frame_rows(x, spec) if kind.named else x
    array = np.ma.getdata(x) if np.ma.isMaskedArray(x) else array_of(x, "x")
    if array.dtype.kind not in "biuf":
        raise InputError(f"x holds {array.dtype}: give numbers")
    if array.shape != spec.shape and spec.shape[-1] == 1:
        array = with_channels(array, spec)
    check_shape(array.shape, spec)
    if not kind.scaled:
        check_no_infinity(array, "x")
        return array.astype(np.float64)
    check_x(array, "x")
    return array


def frame_rows(x: Any, spec: Spec) -> Any:
    """Rows as they are given; of a DataFrame its columns as numbers, by their names
    where the data has any.

    Numbers are in the units of `preprocess.restore`; texts are read as those of the
    file that was trained on.
    """
    import pandas as pd

    if not isinstance(x, pd.DataFrame):
        return x
    if not spec.columns:
        return x.to_numpy(np.float64, na_value=np.nan)
    dialect = spec.dialect or Dialect()
    names = [column.name for column in spec.columns]
    missing = [name for name in names if name not in x.columns]
    unknown = [n for n in x.columns if n not in names and n not in dialect.ignore]
    if missing or unknown:
        raise InputError(
            "the columns of x must be those that were trained on: it lacks "
            f"{missing or 'none'} and has {unknown or 'none'} besides"
        )
    found = []
    for column in spec.columns:
        cells = x[column.name]
        if pd.api.types.is_numeric_dtype(cells) and not column.values:
            found.append(cells.to_numpy(np.float64, na_value=np.nan))
        else:
            texts = [written(cell, dialect.decimal) for cell in cells]
            found.append(codes(np.array(texts, object), column, "x", dialect))
    return np.stack(found, axis=1)


def written(cell: Any, decimal: str) -> str:
    """A cell as a file has it: a number in its shortest form, a hole as nothing."""
    import pandas as pd

    if pd.isna(cell):
        return ""
    if isinstance(cell, float | np.floating):
        return f"{cell:.15g}".replace(".", decimal)
    return str(cell)


def levels_of(x: np.ndarray, spec: Spec, what: str, observed: np.ndarray) -> np.ndarray:
    """Levels as they are stored: 0 and 1 of binary images, which may bring 0, 255."""
    x = levels_by(x, spec.pixels, what, observed)
    if spec.levels != 2:
        return x
    seen = x[observed]
    if not np.isin(seen, (0, 1)).all() and not np.isin(seen, (0, 255)).all():
        raise InputError(
            f"{what} has other levels than two: {spec.name} holds binary images, 0 "
            "and 1 or 0 and 255; use np.where(x > 127, 255, 0).astype(np.uint8)"
        )
    return (x > 0).astype(np.uint8)


def check_codes(x: np.ndarray, observed: np.ndarray, spec: Spec) -> None:
    """InputError where a column of categories or counts holds what is none of them.

    Binary columns may hold probabilities, as means of the model do.
    """
    for place, column in enumerate(spec.columns):
        value = x[:, place][observed[:, place]]
        top = len(column.values) - 1 if column.values else np.inf
        if column.kind in ("category", "count"):
            wrong = (value < 0) | (value > top) | (value != np.round(value))
        else:
            wrong = (column.kind == "binary") & ((value < 0) | (value > 1))
        if np.any(wrong):
            wanted = {"count": "counts 0, 1, 2, ..."}.get(
                column.kind, f"the numbers of {', '.join(column.values)}: 0 to {top}"
            )
            raise InputError(
                f"column {column.name!r} of x holds {value[wrong][0]:g}: it is of "
                f"{wanted}"
            )


def check_shape(shape: tuple[int, ...], spec: Spec) -> None:
    """InputError, with a remedy, where x is not `[N, *shape]` with at least one row."""
    if tuple(shape[1:]) == spec.shape:
        if not shape[0]:
            raise InputError("x is empty: give at least one example")
        return
    wanted = f"[N, {', '.join(map(str, spec.shape))}]"
    remedy = remedy_of(tuple(shape), spec)
    raise InputError(f"x has shape {tuple(shape)}: give {wanted}{remedy}")


def remedy_of(shape: tuple[int, ...], spec: Spec) -> str:
    """How an array of this shape becomes one of examples, where that is plain."""
    if shape == spec.shape:
        return "; a single example is x[None]"
    if len(spec.shape) != 3:
        return ""
    height, width, channels = spec.shape
    if len(shape) == 2 and shape[1] == math.prod(spec.shape):
        return f"; of flat rows, x.reshape(-1, {height}, {width}, {channels})"
    if channels == 1 and shape[1:] == (height, width):
        return "; x[..., None] adds the channel"
    if shape[1:] == (channels, height, width):
        return "; of channels first, np.moveaxis(x, 1, -1)"
    if shape[1:] == (width, height, channels):
        return "; of transposed images, np.swapaxes(x, 1, 2)"
    return ""
