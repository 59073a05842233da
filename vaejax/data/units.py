"""Tables and latents in the model's units and in their own, by what a `Spec` knows."""

import numpy as np

from vaejax.data.spec import Spec
from vaejax.types import ArrayLike


def standardized(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in the model's units, float32; 0 where it is NaN."""
    shape, x = np.shape(x), by_unit(x, spec)
    scaled = ((x - np.array(spec.mean)) / np.array(spec.scale)).reshape(shape)
    with np.errstate(over="ignore"):  # infinite then, for those who use it to refuse
        narrow = scaled.astype(np.float32)
    return np.where(np.isnan(narrow), np.float32(0), narrow)


def in_units(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in its own units, float64."""
    own = by_unit(x, spec) * np.array(spec.scale) + np.array(spec.mean)
    return own.reshape(np.shape(x))


def by_unit(x: ArrayLike, spec: Spec) -> np.ndarray:
    """Numbers `[rows, units]` in float64: the last axis of a map may be flat."""
    return np.asarray(x, np.float64).reshape(-1, len(spec.mean) or spec.shape[-1])
