"""Checks of the entries of a query's batch, in the model's units."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from vaejax.data.checks import array_of
from vaejax.data.classes import listed, plain
from vaejax.data.kinds import kind_of
from vaejax.data.own import check_codes, check_shape, stored_rows
from vaejax.data.spec import Spec
from vaejax.errors import InputError, as_text, shortened
from vaejax.types import Array, ArrayLike, Key, Size

FAR = 10.0
"""Standard deviations: by Chebyshev's inequality at most 1 % of a column is farther."""
SLIGHT = 0.5
"""Pixels farther outside [0, 1] are of another scale."""


def is_concrete(x: Any) -> bool:
    """Whether values can be looked at; not while a function is traced."""
    return not isinstance(x, Tracer)


def numbers(value: Any, what: str) -> Array:
    """An array in float32; InputError where the value is no array of numbers."""
    if isinstance(value, Tracer):
        return jnp.asarray(value, jnp.float32)
    if not isinstance(value, np.ndarray | jax.Array | np.generic | list | tuple):
        raise InputError(
            f"{what} is a {type(value).__name__}: give an array in the model's units, "
            "as experiment.inputs(rows) makes them"
        )
    array = real_array(value, what)
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return jnp.asarray(array.astype(np.float32))


def real_array(value: Any, what: str) -> np.ndarray:
    """An array of real numbers or truth values; InputError where it is none."""
    array = array_of(value, what)
    if array.dtype.kind in "OSUMmc":
        raise InputError(f"{what} has dtype {array.dtype}: give real numbers")
    return array


def checked_x(
    x: Any, spec: Spec, *, binary: bool = False, told: bool = False
) -> tuple[Array, Array | None]:
    """x in float32, and its holes, where it is NaN or masked by `numpy.ma`, if any.

    Args:
      x: `[N, *shape]` in the model's units.
      spec: what the model was trained on.
      binary: whether pixels are 0 and 1, so that integers may be in the model's units.
      told: whether rows are known to be standardized.

    Raises:
      InputError: it has another shape, or is not in the model's units.
    """
    values = numbers(np.ma.getdata(x) if np.ma.isMaskedArray(x) else x, "x")
    check_shape(values.shape, spec)
    kind = kind_of(spec)
    if not is_concrete(values):
        return values.astype(jnp.int32) if kind.coded else values, None
    array = np.asarray(values)
    holes = np.isnan(array)
    if np.ma.isMaskedArray(x):
        holes |= np.ma.getmaskarray(x)
    if np.isinf(array[~holes]).any():
        raise InputError("x has infinite values: replace them, or make them NaN")
    if kind.coded:
        codes = stored_rows(array, ~holes, spec, "x")
        return jnp.asarray(codes), None
    if kind.scaled:
        check_pixels(array[~holes], "x")
        whole = np.asarray(x).dtype.kind in "iu"
        if whole and not binary:
            raise InputError(
                f"x has dtype {np.asarray(x).dtype}: the model's units are floats in "
                "[0, 1]; experiment.inputs(x) makes them of your pictures"
            )
    else:
        check_codes(array, ~holes, spec)
        if not told:
            check_standardized(array, ~holes, spec)
    return values, jnp.asarray(holes) if holes.any() else None


def check_pixels(values: np.ndarray, what: str) -> None:
    """InputError where pixels lie outside [0, 1]."""
    low, high = (float(f(values, initial=0)) for f in (np.min, np.max))
    if low < -SLIGHT or high > 1 + SLIGHT:
        raise InputError(
            f"{what} goes from {low:g} to {high:g}: the model's units are [0, 1]; "
            "experiment.inputs(x) makes them of your pictures"
        )
    if low < -1e-6 or high > 1 + 1e-6:
        raise InputError(
            f"{what} goes from {low:g} to {high:g}: the model's units are [0, 1]; use "
            "x.clip(0, 1)"
        )


def check_standardized(x: np.ndarray, observed: np.ndarray, spec: Spec) -> None:
    """InputError where a column looks like one in its own units.

    It does where most of its values are more than FAR standard deviations from the
    mean as they are, and most would not be once they are standardized.
    """
    raw = (x - np.array(spec.mean)) / np.array(spec.scale)
    far = np.where(observed, np.abs(x) > FAR, False).sum(0)
    would = np.where(observed, np.abs(raw) > FAR, False).sum(0)
    half = observed.sum(0) / 2
    suspects = np.flatnonzero((far > half) & (would <= half))
    if suspects.size:
        place = int(suspects[0])
        name = repr(spec.columns[place].name) if spec.columns else str(place)
        middle = float(np.median(x[:, place][observed[:, place]]))
        raise InputError(
            f"column {name} of x is {middle:g} in the middle, in standard deviations "
            "from the mean: experiment.inputs(x) standardizes rows; pass {'x': x} "
            "where they are"
        )


def checked_labels(value: Any, spec: Spec, num: Size) -> Array:
    """Indices int `[N]`, where -1 is no label, or soft labels `[N, classes]`.

    Texts are names of classes. InputError where there is no such class, or not one
    label for each example.
    """
    y = jnp.asarray(indexed(value, spec))
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] != spec.classes):
        raise InputError(
            f"given['y'] has shape {y.shape}: give labels [N], or a weight of each "
            f"class [N, {spec.classes}]"
        )
    if y.shape[0] != num:
        raise InputError(f"given['y'] has {y.shape[0]} labels for {num} examples")
    if y.ndim == 1 and not jnp.issubdtype(y.dtype, jnp.integer):
        raise InputError(
            f"given['y'] has dtype {y.dtype}: labels are whole numbers or texts"
        )
    if not is_concrete(y):
        return y
    values = np.asarray(y)
    if y.ndim == 2 and not np.isfinite(values).all():
        raise InputError("given['y'] has weights that are not finite")
    wrong = values[(values < -1) | (values >= spec.classes)]
    if y.ndim == 1 and wrong.size:
        raise InputError(f"given['y'] holds {wrong[0]}: {listed(spec.class_names)}")
    return y


def indexed(value: Any, spec: Spec) -> ArrayLike:
    """Given labels by their indices, texts being names of classes; InputError where
    training saw no such class.
    """
    if isinstance(value, jax.Array):
        return value
    array = plain(value)
    if array.dtype.kind not in "iufU":
        raise InputError(
            f"given['y'] has dtype {array.dtype}: labels are whole numbers or texts"
        )
    return spec.label_index(array) if array.dtype.kind == "U" else array


def checked_like_x(name: str, value: Any, shape: tuple[Size, ...]) -> Array:
    """A context, or ones and zeros, in the shape of x; InputError where it is none."""
    found = numbers(value, f"given[{name!r}]")
    if found.shape != shape:
        raise InputError(
            f"given[{name!r}] has shape {found.shape}: x has shape {shape}"
        )
    if name == "context":
        return jnp.nan_to_num(found)  # what is not seen may be anything
    if is_concrete(found) and not np.isin(found, (0, 1)).all():
        raise InputError(f"given[{name!r}] holds other numbers than 1 and 0")
    return found


def checked_latents(z: ArrayLike, latents: tuple[int, ...]) -> Array:
    """z `[N, *latents]`, float32; InputError where it is none."""
    z = numbers(z, "z")
    if z.shape[1:] != latents or z.ndim == 0 or z.shape[0] == 0:
        wanted = ", ".join(map(str, ("N", *latents)))
        raise InputError(f"z has shape {z.shape}: give [{wanted}]")
    if is_concrete(z) and not np.isfinite(z).all():
        raise InputError("z has values that are not finite")
    return z


def checked_key(key: Any) -> Key:
    """The key; InputError where it is a number or something else."""
    if isinstance(key, jax.Array):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0
        if typed or (key.dtype == jnp.uint32 and key.ndim == 1):
            return key
    text = shortened(as_text(key), 60)
    raise InputError(f"key is {text}: give jax.random.key(0), or another seed")
