"""Tables in the model's units and in their own: what a standardized `Spec` says."""

import numpy as np

from vaejax.data.dataset import Spec
from vaejax.types import ArrayLike


def standardized(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in the model's units, float32; 0 where it is NaN."""
    scaled = (np.asarray(x, np.float64) - np.array(spec.mean)) / np.array(spec.scale)
    return np.nan_to_num(scaled.astype(np.float32), copy=False)


def in_units(x: ArrayLike, spec: Spec) -> np.ndarray:
    """A table in its own units, float64."""
    return np.asarray(x, np.float64) * np.array(spec.scale) + np.array(spec.mean)
