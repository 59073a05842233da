"""Scores with standard errors, and checks of codes and factors."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vaejax.data.splits import fixed_permutation
from vaejax.errors import InputError

Codes = Float[np.ndarray, "N latents"]
Factors = Int[np.ndarray, "N factors"]
FOLDS = 10
"""Parts of the examples, each of which the jackknife leaves out once."""


class Score(NamedTuple):
    """A score and its standard error; NaN where that is not known."""

    value: float
    error: float = math.nan


def paired_codes(codes: np.ndarray, factors: np.ndarray) -> tuple[Codes, Factors]:
    """Codes in float64 and factors, as many as there are codes.

    Raises:
      InputError: shapes do not fit, a code is not finite, or a factor is constant.
    """
    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors):
        raise InputError(
            f"codes {codes.shape} and factors {factors.shape} are not [N, latents] and "
            "[N, factors]"
        )
    if factors.dtype.kind not in "iu" or not np.isfinite(codes).all():
        raise InputError("codes must be finite, and factors whole numbers")
    if (factors.min(0) == factors.max(0)).any():
        place = int(np.argmax(factors.min(0) == factors.max(0)))
        raise InputError(
            f"factor {place} has one value in these {len(codes)} examples: give more"
        )
    return codes, factors


def accuracy_score(right: np.ndarray) -> Score:
    """The share of what is right, with its binomial standard error."""
    share = float(np.mean(right))
    return Score(share, math.sqrt(share * (1 - share) / len(right)))


def jackknife(
    score: Callable[[Codes, Factors], float], codes: Codes, factors: Factors
) -> Score:
    """A score of all examples, and its standard error by leaving tenths out.

    The error is of another choice of as many examples, at the same codes.
    """
    value = score(codes, factors)
    part = fixed_permutation(len(codes), purpose=3) % FOLDS
    without = [score(codes[part != k], factors[part != k]) for k in range(FOLDS)]
    spread = np.square(np.array(without) - np.mean(without)).sum()
    return Score(value, math.sqrt((FOLDS - 1) / FOLDS * spread))


def halves_of(count: int) -> tuple[slice, slice]:
    """Two thirds of the examples to fit on, and the others to score."""
    cut = 2 * count // 3
    if not 0 < cut < count:
        raise InputError(f"{count} examples are too few to fit and score on")
    return slice(cut), slice(cut, None)
