"""Differences of means with their errors: over pairs of examples, and over seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Probability with which an interval covers, of normal differences."""


class Difference(NamedTuple):
    """A difference of two means; `error` is None where all differences are equal."""

    value: float
    error: float | None = None
    """Its standard error."""
    low: float | None = None
    """Lower bound of the 95 % interval by Student's t."""
    high: float | None = None
    count: int = 0
    """Pairs, or values of both means together."""

    @property
    def z(self) -> float | None:
        """The difference in standard errors."""
        return self.value / self.error if self.error else None


def paired_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The mean of second - first over pairs, `[N]` each, and its standard error.

    The error is the deviation of the differences (n - 1) over the root of N: what both
    have in common, as examples that are hard for every model, cancels.
    """
    each = second.astype(np.float64) - first.astype(np.float64)
    count, value = len(each), float(each.mean())
    if count < 2 or not np.isfinite(each).all():
        return Difference(value, count=count)
    error = float(each.std(ddof=1)) / math.sqrt(count)
    return with_interval(value, error, count - 1, count)


def welch_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The difference of two means, second - first, of independent samples.

    Variances may differ: the standard error is the root of s1^2 / n1 + s2^2 / n2, and
    its degrees of freedom those of [Welch 1947].
    """
    samples = [np.asarray(each, np.float64) for each in (first, second)]
    value = float(samples[1].mean() - samples[0].mean())
    count = sum(map(len, samples))
    if min(map(len, samples)) < 2 or not all(np.isfinite(s).all() for s in samples):
        return Difference(value, count=count)
    parts = [float(each.var(ddof=1)) / len(each) for each in samples]
    total = sum(parts)
    if not total:
        return Difference(value, count=count)
    shares = (p**2 / (len(s) - 1) for p, s in zip(parts, samples, strict=True))
    return with_interval(value, math.sqrt(total), total**2 / sum(shares), count)


def with_interval(value: float, error: float, degrees: float, count: int) -> Difference:
    """The difference with its interval; without one where the error is 0."""
    if not error:
        return Difference(value, count=count)
    from scipy.stats import t  # takes a second

    half = float(t.ppf((1 + LEVEL) / 2, degrees)) * error
    return Difference(value, error, value - half, value + half, count)
