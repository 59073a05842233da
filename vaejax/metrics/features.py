"""All distances between two sets of features, whatever the features are of."""

import math
import sys

import numpy as np

from vaejax.errors import InputError
from vaejax.experiment import Quantity
from vaejax.metrics.neighbours import (
    NEAREST_DC,
    NEAREST_PR,
    density_coverage,
    precision_recall,
)
from vaejax.metrics.samples import frechet_distance, kernel_distance
from vaejax.types import ArrayLike

LEAST = NEAREST_DC + 2
"""Examples of a set that all of the distances need."""

SQUARED = "features' units squared"
"""Unit of the Fréchet distance; that of the kernel has none."""

DISTANCES = {
    "fd": Quantity("Fréchet distance to test data in these features", SQUARED),
    "kd": Quantity("kernel distance (squared MMD) to test data in these features"),
    "precision": Quantity(
        f"share of samples within the data's balls, k = {NEAREST_PR}", "share"
    ),
    "recall": Quantity(
        f"share of the data within samples' balls, k = {NEAREST_PR}", "share"
    ),
    "density": Quantity(
        f"mean number of the data's balls around a sample, over k = {NEAREST_DC}"
    ),
    "coverage": Quantity(
        f"share of the data's balls that hold a sample, k = {NEAREST_DC}", "share"
    ),
}
"""The numbers of `compare_features`, by the beginning of their names."""


def compare_features(
    real: ArrayLike, generated: ArrayLike, source: str = "features"
) -> dict[str, float]:
    """Distances of samples to data, and how far they are among and cover them.

    Args:
      real: features of data, `[N, features]`.
      generated: features of samples by the same function, `[M, features]`.
      source: the name of the features, at the end of each number's name. Numbers
        compare where features and numbers of examples are the same.

    Returns:
      `fd_*` [Heusel et al. 2017, eq. 6], `kd_*` [Binkowski et al. 2018, sec. 4] and,
      where draws of it differ, `kd_*_spread`; `precision_*` and `recall_*`
      [Kynkaanniemi et al. 2019], `density_*` and `coverage_*` [Naeem et al. 2020].

    Raises:
      InputError: too few examples, or features that are not finite or all equal.
    """
    a = checked_features(real, "the data")
    b = checked_features(generated, "the samples")
    if a.shape[1] != b.shape[1]:
        raise InputError(
            f"the data has {a.shape[1]} features and the samples have "
            f"{b.shape[1]}: make both by one function"
        )
    warn_of_few(min(len(a), len(b)), a.shape[1], source)
    kernel = kernel_distance(a, b)
    precision, recall = precision_recall(a, b)
    density, coverage = density_coverage(a, b)
    return {
        f"fd_{source}": frechet_distance(a, b),
        f"kd_{source}": kernel.value,
        **({} if math.isnan(kernel.spread) else {f"kd_{source}_spread": kernel.spread}),
        f"precision_{source}": precision,
        f"recall_{source}": recall,
        f"density_{source}": density,
        f"coverage_{source}": coverage,
    }


def checked_features(features: ArrayLike, whose: str) -> np.ndarray:
    """Features in float64; InputError where no distance can be made of them.

    Samples that are all alike are accepted, for a model may have collapsed to one;
    data that are, are not.
    """
    found = np.asarray(features)
    if found.ndim != 2 or found.dtype.kind not in "biuf" or not found.shape[1]:
        raise InputError(
            f"features of {whose} are {found.dtype} {list(found.shape)}: give numbers "
            "[examples, features]"
        )
    if len(found) < LEAST:
        raise InputError(
            f"{len(found)} examples of {whose} are too few to compare: give at least "
            f"{LEAST}"
        )
    found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise InputError(f"features of {whose} are not all finite: mend or drop them")
    if whose == "the data" and (found == found[0]).all():
        raise InputError(f"features of {whose} are all equal: choose other features")
    return found


def warn_of_few(examples: int, features: int, source: str) -> None:
    """A line on stderr where covariances have fewer examples than dimensions."""
    if examples > features:
        return
    print(
        f"warning: the Fréchet distance in {features:,} features ({source}) of only "
        f"{examples:,} examples is far too large: comparable at this number alone",
        file=sys.stderr,
    )
