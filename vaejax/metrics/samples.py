"""Distances between samples and data in features of any kind.

The FID and the KID are these distances in the features of one network, trained on
ImageNet; in other features they are other numbers, which carry the features' name.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "N features"]
Others = Float[np.ndarray, "M features"]


class Estimate(NamedTuple):
    """A value and its spread, NaN where there is nothing to tell it by."""

    value: float
    spread: float


def frechet_distance(a: Features, b: Others) -> float:
    """|m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of two sets of features.

    [Heusel et al. 2017, eq. 6]. The trace of the root is the sum of the roots of the
    eigenvalues of the symmetric S_a^(1/2) S_b S_a^(1/2). Biased upwards by about the
    number of features over that of examples: compare at equal numbers.
    """
    from scipy import linalg  # takes a while to load

    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    s_a, s_b = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    values, vectors = linalg.eigh(s_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = linalg.eigvalsh(root @ s_b @ root)
    cross = np.sqrt(np.maximum(product, 0)).sum()
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(s_a) + np.trace(s_b) - 2 * cross)


def kernel_distance(
    a: Features, b: Others, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> Estimate:
    """Unbiased squared maximum mean discrepancy, kernel (x.y / d + 1)^3.

    [Binkowski et al. 2018, sec. 4]: the mean over `subsets` draws of `size` examples
    of each set, and the standard deviation over the draws. May be negative by chance.
    Where the sets have no more than `size` examples, all of them are compared once, and
    there is no spread.
    """
    size = min(size, len(a), len(b))
    if size == len(a) == len(b):
        return Estimate(squared_mmd(a, b), math.nan)
    rng = np.random.default_rng(seed)
    values = [
        squared_mmd(
            a[rng.choice(len(a), size, False)], b[rng.choice(len(b), size, False)]
        )
        for _ in range(subsets)
    ]
    spread = math.nan if subsets < 2 else float(np.std(values, ddof=1))
    return Estimate(float(np.mean(values)), spread)


def squared_mmd(a: Features, b: Features) -> float:
    """The unbiased estimate, of two sets of equal size [Gretton et al. 2012, eq. 3]."""
    a, b, n = np.asarray(a, np.float64), np.asarray(b, np.float64), len(a)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        base = x @ y.T / x.shape[1] + 1
        return base * base * base  # a power of NumPy takes several times as long

    within = sum(k.sum() - np.trace(k) for k in (kernel(a, a), kernel(b, b)))
    return float(within / (n * (n - 1)) - 2 * kernel(a, b).mean())
