"""Whether codes tell labels: by neighbours, by a linear map, by clusters."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vaejax.data.labels import balanced_rows
from vaejax.errors import InputError
from vaejax.metrics.disentanglement.base import (
    Codes,
    Score,
    accuracy_score,
    halves_of,
)
from vaejax.metrics.disentanglement.linear import logistic_regression
from vaejax.metrics.disentanglement.predictors import standardized_by
from vaejax.metrics.neighbours import squared_distances

NEIGHBOURS = 5
STARTS = 10
"""Starts of k-means, of which the best counts."""
Labels = Int[np.ndarray, " N"]


def rows_with_labels(
    y: Labels, labels: int, seed: int
) -> tuple[np.ndarray | slice, np.ndarray | slice]:
    """The examples whose labels are known, and those to tell the labels of."""
    if not labels:
        return halves_of(len(y))
    names = tuple(map(str, range(int(y.max()) + 1)))
    known = np.zeros(len(y), bool)
    known[balanced_rows(np.asarray(y), labels, seed, names)] = True
    if known.all():
        raise InputError(f"--labels {labels} are all {len(y)} examples: know fewer")
    return known, ~known


def neighbour_accuracy(
    codes: Codes, y: Labels, *, k: int = NEIGHBOURS, labels: int = 0, seed: int = 0
) -> Score:
    """Accuracy of the vote of the k nearest among two thirds, on the other third.

    Distances are Euclidean, of codes as they are; of equal votes the smallest class
    wins.

    Args:
      codes: `[N, latents]`, means or samples of q(z | x).
      y: classes 0, 1, ..., `[N]`.
      k: neighbours that vote.
      labels: number of examples that vote, equally many of each class, instead of two
        thirds; the others are told.
      seed: of their choice.

    Returns:
      The accuracy, with its binomial error.

    Raises:
      InputError: there are too few examples.
    """
    fit, test = rows_with_labels(y, labels, seed)
    x, labels = np.asarray(codes, np.float64), np.asarray(y)
    right = []
    for start, squares in squared_distances(x[test], x[fit]):
        near = np.argpartition(squares, min(k, squares.shape[1]) - 1, 1)[:, :k]
        votes = np.eye(int(labels.max()) + 1, dtype=int)[labels[fit][near]].sum(1)
        right.append(votes.argmax(1) == labels[test][start : start + len(squares)])
    return accuracy_score(np.concatenate(right))


def probe_accuracy(codes: Codes, y: Labels, *, labels: int = 0, seed: int = 0) -> Score:
    """Accuracy of a logistic regression that two thirds are fitted to, on the rest.

    Codes are standardized by the examples of the fit; the penalty is scikit-learn's
    default, C = 1.

    Args:
      codes: `[N, latents]`, means or samples of q(z | x).
      y: classes 0, 1, ..., `[N]`.
      labels: number of examples to fit to, equally many of each class, instead of two
        thirds [M1 of Kingma et al. 2014]; the others are told.
      seed: of their choice.

    Returns:
      The accuracy, with its binomial error.

    Raises:
      InputError: there are too few examples.
    """
    fit, test = rows_with_labels(y, labels, seed)
    x = standardized_by(np.asarray(codes, np.float64), fit)
    model = logistic_regression(x[fit], y[fit], int(y.max()) + 1)
    return accuracy_score(model.predict(x[test]) == y[test])


class Agreement(NamedTuple):
    """Agreement of clusters with labels: 1 if they are the same, 0 by chance."""

    rand: float
    """Adjusted Rand index."""
    information: float
    """Normalized mutual information (arithmetic mean of both entropies)."""


def cluster_agreement(codes: Codes, y: Labels, *, seed: int = 0) -> Agreement:
    """Agreement with labels of k-means clusters, as many as there are classes.

    The adjusted Rand index [Hubert & Arabie 1985] and the normalized mutual
    information, by scikit-learn.

    Args:
      codes: `[N, latents]`, means or samples of q(z | x).
      y: classes 0, 1, ..., `[N]`.
      seed: of the starts of k-means.
    """
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    how: dict[str, Any] = {"n_init": STARTS, "random_state": seed}
    found = KMeans(len(np.unique(y)), **how).fit_predict(codes)
    return Agreement(
        float(adjusted_rand_score(y, found)),
        float(normalized_mutual_info_score(y, found)),
    )
