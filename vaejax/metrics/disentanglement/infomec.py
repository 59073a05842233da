"""Modularity, explicitness and compactness by information [Hsu et al. 2023]."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vaejax.metrics.disentanglement.base import Codes, Factors, paired_codes
from vaejax.metrics.disentanglement.information import factor_entropies
from vaejax.metrics.disentanglement.linear import logistic_regression

NEIGHBOURS = 10
LEAST_RANGE = 1 / 20
"""A latent is active whose range is above this share of the largest."""


class InfoMEC(NamedTuple):
    """The three scores, and what they are of."""

    modularity: float
    explicitness: float
    compactness: float
    """NaN where only one latent is active, as its formula has no value."""
    information: Float[np.ndarray, "latents factors"]
    """I(z_j; v_k) / H(v_k)."""
    active: Bool[np.ndarray, " latents"]


def information_scores(codes: Codes, factors: Factors, *, seed: int = 0) -> InfoMEC:
    """InfoM, InfoE and InfoC of continuous codes [Hsu et al. 2023, sec. 4].

    I(z_j; v_k) is estimated by 10 nearest neighbours [Ross 2014, in scikit-learn] and
    divided by H(v_k). InfoM is the mean over active latents of the largest share of a
    factor in their information, InfoC that over factors of the largest share of a
    latent, each scaled so that equal shares are 0. InfoE is the mean of 1 - H / log n
    over factors of n values, where H is the cross-entropy of an unpenalized logistic
    regression with balanced classes, on the examples that it is fitted to.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.
      seed: of the noise that parts equal codes.

    Returns:
      The scores, 0 to 1 (InfoE can be below 0), and the normalized information.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    scale = codes.std(0)
    x = (codes - codes.mean(0)) / np.where(scale > 0, scale, 1)
    information = neighbour_information(x, factors, seed) / factor_entropies(factors)
    width = np.ptp(codes, axis=0)
    active = width > LEAST_RANGE * width.max()
    seen = information[active]
    return InfoMEC(
        largest_share(seen),
        float(np.mean([explained(x, v) for v in factors.T])),
        largest_share(seen.T),
        information,
        active,
    )


def neighbour_information(
    x: Codes, factors: Factors, seed: int
) -> Float[np.ndarray, "latents factors"]:
    """I(z_j; v_k) by nearest neighbours, nats."""
    from sklearn.feature_selection import mutual_info_classif  # slow to import

    how = {"discrete_features": False, "n_neighbors": NEIGHBOURS, "random_state": seed}
    return np.stack([mutual_info_classif(x, v, **how) for v in factors.T], 1)


def largest_share(matrix: Float[np.ndarray, "rows columns"]) -> float:
    """The mean over rows of the largest share of a column, 0 where all are equal."""
    rows, columns = matrix.shape
    if columns < 2 or not rows:
        return math.nan
    total = matrix.sum(1)
    share = np.where(
        total > 0, matrix.max(1) / np.where(total > 0, total, 1), 1 / columns
    )
    return float((share.mean() - 1 / columns) / (1 - 1 / columns))


def explained(x: Codes, v: np.ndarray) -> float:
    """1 - H / log n of a factor of n values."""
    values, y = np.unique(v, return_inverse=True)
    model = logistic_regression(x, y, len(values), c=math.inf, balanced=True)
    entropy = -model.log_probabilities(x)[np.arange(len(y)), y].mean()
    return float(1 - entropy / math.log(len(values)))
