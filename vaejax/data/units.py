"""Tables in the model's units and in their own: what a standardized `Spec` says."""

import numpy as np

from vaejax.data.spec import Spec
from vaejax.types import ArrayLike


def standardized(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in the model's units, float32; 0 where it is NaN."""
    scaled = (np.asarray(x, np.float64) - np.array(spec.mean)) / np.array(spec.scale)
    with np.errstate(over="ignore"):  # infinite then, for those who use it to refuse
        narrow = scaled.astype(np.float32)
    return np.where(np.isnan(narrow), np.float32(0), narrow)


def in_units(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in its own units, float64."""
    return np.asarray(x, np.float64) * np.array(spec.scale) + np.array(spec.mean)
