"""Scores by classifiers of factors from codes, fitted on two thirds of them."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.metrics.disentanglement.base import (
    Codes,
    Factors,
    accuracy_score,
    halves_of,
    paired_codes,
)
from vaejax.metrics.disentanglement.information import top_two_gap
from vaejax.metrics.disentanglement.linear import logistic_regression, squared_hinge

SVM_COST = 0.01
SMALL = 1e-11
"""Added to importances, so that a row of zeros has the largest entropy."""


class Separated(NamedTuple):
    """SAP, and what it is of."""

    score: float
    accuracy: Float[np.ndarray, "latents factors"]
    """Accuracy on a factor's values by one latent alone."""


def separated_attributes(codes: Codes, factors: Factors) -> Separated:
    """Separated attribute predictability, SAP [Kumar et al. 2018, sec. 3].

    The mean over factors of the gap between the two latents that classify its values
    best, each alone, by a linear support vector machine with C = 0.01 and balanced
    classes, as in disentanglement_lib; on the third of the examples that it was not
    fitted to.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.

    Returns:
      The score, 0 to 1, and the accuracy of each latent on each factor.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    fit, test = halves_of(len(codes))
    accuracy = np.array(
        [
            [single_accuracy(z[fit], v[fit], z[test], v[test]) for v in factors.T]
            for z in codes.T
        ]
    )
    return Separated(float(top_two_gap(accuracy).mean()), accuracy)


def single_accuracy(
    z: np.ndarray, v: np.ndarray, test_z: np.ndarray, test_v: np.ndarray
) -> float:
    """Accuracy on `test_v` of support vector machines that are fitted to one latent."""
    values, y = np.unique(v, return_inverse=True)
    if len(values) < 2:
        return float((test_v == values[0]).mean())
    given = jnp.asarray(z, jnp.float32), jnp.asarray(y)
    slope, bias = np.asarray(squared_hinge(*given, len(values), SVM_COST)).T
    scores = test_z[:, None] * slope + bias
    return float((values[scores.argmax(1)] == test_v).mean())


def explicitness(codes: Codes, factors: Factors) -> float:
    """Explicitness of factors, by logistic regression [Ridgeway & Mozer 2018].

    The area under the ROC curve of each value against the others, averaged over values
    and factors, on the third of the examples that was not fitted to; codes are
    standardized by the others. Chance is 0.5.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.

    Returns:
      The mean area, 0 to 1.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    fit, test = halves_of(len(codes))
    x = standardized_by(codes, fit)
    areas = []
    for v in factors.T:
        y = np.unique(v, return_inverse=True)[1]
        model = logistic_regression(x[fit], y[fit], int(y.max()) + 1)
        log_p = model.log_probabilities(x[test])
        found = [area_under_roc(log_p[:, k], y[test] == k) for k in range(y.max() + 1)]
        areas.append(np.nanmean(found))
    return float(np.mean(areas))


def standardized_by(codes: Codes, rows: slice | np.ndarray) -> Codes:
    """Codes by mean and deviation of some of them; constant ones are 0."""
    scale = codes[rows].std(0)
    return (codes - codes[rows].mean(0)) / np.where(scale > 0, scale, 1)


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has the larger score, ties being half; NaN
    without positives, or with nothing else.
    """
    from scipy.stats import rankdata  # takes a while to load

    count = int(positive.sum())
    if count in (0, len(positive)):
        return math.nan
    above = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positive) - count)))


class Importances(NamedTuple):
    """DCI: three scores, and the importances that two of them are of."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: Float[np.ndarray, "latents factors"]


def importance_scores(codes: Codes, factors: Factors, *, seed: int = 0) -> Importances:
    """Disentanglement, completeness and informativeness, DCI [Eastwood & Williams
    2018, sec. 2].

    Importances R are those of scikit-learn's gradient boosted trees, one model for each
    factor, as in disentanglement_lib. Disentanglement is 1 - H(R_j.) / log F of each
    latent, weighed by its part of all importance, completeness 1 - H(R_.k) / log D of
    each factor, and informativeness the mean accuracy on the third of the examples that
    was not fitted to. Takes minutes where factors have tens of values.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.
      seed: of the trees.

    Returns:
      The scores, 0 to 1, and the importance of each latent for each factor.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    from sklearn.ensemble import GradientBoostingClassifier  # takes a while to load

    codes, factors = paired_codes(codes, factors)
    fit, test = halves_of(len(codes))
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    accuracies = []
    for k, v in enumerate(factors.T):
        trees = GradientBoostingClassifier(random_state=seed)
        trees.fit(codes[fit], v[fit])
        importance[:, k] = np.abs(trees.feature_importances_)
        accuracies.append(accuracy_score(trees.predict(codes[test]) == v[test]).value)
    return Importances(
        concentration(importance),
        concentration(importance.T),
        float(np.mean(accuracies)),
        importance,
    )


def concentration(importance: Float[np.ndarray, "rows columns"]) -> float:
    """The mean over rows, by their mass, of 1 - entropy / log columns."""
    columns = importance.shape[1]
    shares = importance + SMALL
    shares = shares / shares.sum(1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(1) / math.log(columns)
    mass = importance if importance.sum() else np.ones_like(importance)
    return float(((1 - entropy) * mass.sum(1) / mass.sum()).sum())
