"""Whether samples lie among the data and cover them, by balls around neighbours.

Precision and recall [Kynkaanniemi et al. 2019, eqs. 1-2], density and coverage
[Naeem et al. 2020, eqs. 4-5]. The ball of an example reaches to its k-th nearest
neighbour in its own set; it is closed, so a sample on the rim, or a copy of an example,
is inside.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vaejax.errors import InputError
from vaejax.metrics.samples import Features, Others

NEAREST_PR, NEAREST_DC = 3, 5
"""Neighbours k of each paper: of precision and recall, of density and coverage."""
CHUNK_BYTES = 2**25
EQUAL = 1e-12
"""Squared distances below this share of |x|^2 + |y|^2 are rounding: rows are equal."""


class Among(NamedTuple):
    """How one set lies among the balls around the examples of another."""

    inside: float
    """Share of its examples that are in at least one ball."""
    balls: float
    """Mean number of balls that one of its examples is in."""
    holding: float
    """Share of the balls that hold at least one of its examples."""


def precision_recall(
    real: Features, generated: Others, *, k: int = NEAREST_PR
) -> tuple[float, float]:
    """Share of samples among the data, and share of the data among samples.

    [Kynkaanniemi et al. 2019, eqs. 1-2]. In time of all pairs, and in the memory of a
    chunk of them, with distances in float64.

    Args:
      real: features of data, `[N, features]`.
      generated: features of samples, `[M, features]`.
      k: the neighbour that a ball reaches to; 3 in the paper.

    Returns:
      Precision and recall, in [0, 1].

    Raises:
      InputError: a set has no more than k examples.
    """
    real, generated = centred(real, generated)
    precision = among(generated, real, radii(real, k)).inside
    return precision, among(real, generated, radii(generated, k)).inside


def density_coverage(
    real: Features, generated: Others, *, k: int = NEAREST_DC
) -> tuple[float, float]:
    """Balls of the data that a sample is in, and share of balls that hold a sample.

    [Naeem et al. 2020, eqs. 4-5]. Unlike precision, density is not raised by the large
    ball of one outlier; it is about 1 where both sets are of one distribution, and may
    exceed 1.

    Args:
      real: features of data, `[N, features]`.
      generated: features of samples, `[M, features]`.
      k: the neighbour that a ball reaches to; 5 in the paper.

    Returns:
      Density, the mean number of balls that a sample is in over k, and coverage, in
      [0, 1].

    Raises:
      InputError: the data has no more than k examples.
    """
    real, generated = centred(real, generated)
    found = among(generated, real, radii(real, k))
    return found.balls / k, found.holding


def centred(real: Features, generated: Others) -> tuple[np.ndarray, np.ndarray]:
    """Both sets in float64 around the mean of the first, where rounding is least."""
    mean = np.asarray(real, np.float64).mean(0)
    return np.asarray(real, np.float64) - mean, np.asarray(generated, np.float64) - mean


def radii(x: Features, k: int) -> Float[np.ndarray, " N"]:
    """Squared distance of each example to its k-th nearest neighbour in the set."""
    if not 1 <= k < len(x):
        raise InputError(f"k = {k} neighbours of {len(x)} examples: give more examples")
    found = np.empty(len(x))
    for start, squares in squared_distances(x, x):
        rows = np.arange(len(squares))
        squares[rows, start + rows] = np.inf  # an example is no neighbour of itself
        found[start + rows] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return found


def among(x: Features, centres: Others, reach: Float[np.ndarray, " M"]) -> Among:
    """How `x` lies among balls of squared radius `reach` around `centres`."""
    balls, held = np.empty(len(x)), np.zeros(len(centres), bool)
    for start, squares in squared_distances(x, centres):
        inside = squares <= reach
        balls[start : start + len(inside)] = inside.sum(1)
        held |= inside.any(0)
    return Among(float((balls > 0).mean()), float(balls.mean()), float(held.mean()))


def squared_distances(x: Features, y: Others) -> Iterator[tuple[int, np.ndarray]]:
    """Squared distances of rows of `x`, a chunk at a time, to all of `y`.

    Yields the first row of each chunk and its distances `[chunk, M]`.
    """
    y_norms = np.square(y).sum(1)
    size = max(1, CHUNK_BYTES // (8 * len(y)))
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        norms = np.square(rows).sum(1)[:, None] + y_norms
        squares = norms - 2 * rows @ y.T
        squares[squares < EQUAL * norms] = 0
        yield start, squares
