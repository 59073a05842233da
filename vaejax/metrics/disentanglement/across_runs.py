"""Whether several trainings found the same latents: UDR [Duan et al. 2020]."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from vaejax.errors import InputError
from vaejax.metrics.disentanglement.base import Codes

Similarity = Literal["lasso", "spearman"]
LEAST_KL = 0.01
"""Mean KL, nats, up to which a latent tells nothing."""
PENALTY = 0.1


class Ranking(NamedTuple):
    """UDR, and what it is of."""

    scores: Float[np.ndarray, " runs"]
    """The median of each run's pairs with the others."""
    pairs: Float[np.ndarray, "runs runs"]


def disentanglement_ranking(
    codes: Sequence[Codes],
    kl: Sequence[Float[np.ndarray, " latents"]],
    similarity: Similarity = "lasso",
) -> Ranking:
    """Unsupervised disentanglement ranking [Duan et al. 2020, sec. 4].

    Of two runs, R_ab is how latent a of the one predicts latent b of the other: the
    weight of a Lasso (penalty 0.1) between standardized codes, or Spearman's
    correlation, without its sign. A pair scores the mean over rows and over columns of
    max R^2 / sum R, of latents whose KL is above 0.01 nats; a run the median of its
    pairs, as in disentanglement_lib.

    Args:
      codes: means of q(z | x) of the same examples, `[N, latents]`, of each run.
      kl: the mean KL(q(z | x) || p(z)) of each latent, nats, of each run.
      similarity: lasso or spearman.

    Returns:
      The score of each run and of all pairs, 0 to 1.

    Raises:
      InputError: there are fewer than two runs, or they have other examples or numbers
        of latents.
    """
    shapes = {np.shape(each) for each in codes}
    if len(codes) < 2 or len(shapes) > 1 or len(kl) != len(codes):
        raise InputError(
            f"{len(codes)} runs with codes {sorted(shapes)}: give at least two, of the "
            "same examples and the same number of latents"
        )
    known = [np.asarray(each) > LEAST_KL for each in kl]
    x = [
        scaled_codes(np.asarray(c, float)) * k
        for c, k in zip(codes, known, strict=True)
    ]
    runs = range(len(codes))
    pairs = np.zeros((len(codes), len(codes)))
    for i in runs:
        for j in runs:
            if i != j:
                matrix = similarity_of(x[i], x[j], similarity)
                pairs[i, j] = one_to_one(matrix[known[i]][:, known[j]])
    scores = [np.median(np.delete(pairs[:, j], j)) for j in runs]
    return Ranking(np.array(scores), pairs)


def scaled_codes(codes: Codes) -> Codes:
    """Codes of mean 0 and deviation 1; constant ones are 0."""
    scale = codes.std(0)
    return (codes - codes.mean(0)) / np.where(scale > 0, scale, 1)


def similarity_of(
    x: Codes, y: Codes, similarity: Similarity
) -> Float[np.ndarray, "latents others"]:
    """Similarity of latents of `x` and those of `y`, without a sign."""
    if similarity == "lasso":
        from sklearn.linear_model import Lasso  # slow to import

        return np.abs(np.atleast_2d(Lasso(alpha=PENALTY).fit(x, y).coef_).T)
    from scipy.stats import rankdata  # takes a while to load

    ranks = [scaled_codes(rankdata(each, axis=0)) for each in (x, y)]
    return np.abs(ranks[0].T @ ranks[1]) / len(x)


def one_to_one(matrix: Float[np.ndarray, "latents others"]) -> float:
    """The mean over columns and over rows of max R^2 / sum R; 0 without entries."""
    if not matrix.size:
        return 0.0

    def mean_of(axis: int) -> float:
        total = matrix.sum(axis)
        share = np.square(matrix.max(axis)) / np.where(total > 0, total, 1)
        return float(share.mean())

    return (mean_of(0) + mean_of(1)) / 2
