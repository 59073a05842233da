"""Scores by the mutual information of single latents with factors, in nats."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vaejax.metrics.disentanglement.base import (
    Codes,
    Factors,
    Score,
    jackknife,
    paired_codes,
)
from vaejax.types import Array

BINS = 20


def histogram_bins(codes: Codes, bins: int = BINS) -> Int[np.ndarray, "N latents"]:
    """The bin of each code among `bins` equal ones from its least to its largest."""
    edges = (np.histogram(column, bins)[1][:-1] for column in codes.T)
    return np.stack(
        [np.digitize(c, e) - 1 for c, e in zip(codes.T, edges, strict=True)], 1
    )


def discrete_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) of two arrays `[N]` of whole numbers from 0 on, as they are, nats."""
    width = int(b.max()) + 1
    joint = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width)
    p = joint.reshape(-1, width) / len(a)
    outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    seen = p > 0
    return max(0.0, float((p[seen] * np.log(p[seen] / outer[seen])).sum()))


def information_matrix(
    codes: Codes, factors: Factors, bins: int = BINS
) -> Float[np.ndarray, "latents factors"]:
    """I(z_j; v_k) of latents in bins of a histogram with factors, nats."""
    binned = histogram_bins(codes, bins)
    return np.array([[discrete_information(z, v) for v in factors.T] for z in binned.T])


def factor_entropies(factors: Factors) -> Float[np.ndarray, " factors"]:
    """H(v_k) of each factor among these examples, nats."""
    return np.array([discrete_information(v, v) for v in factors.T])


def top_two_gap(
    matrix: Float[np.ndarray, "latents factors"],
) -> Float[np.ndarray, " factors"]:
    """The largest entry of each column minus the second; of one row, minus 0."""
    if len(matrix) < 2:
        return matrix[0]
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - ordered[-2]


def mutual_information_gap(codes: Codes, factors: Factors) -> Score:
    """MIG by a histogram of codes, as disentanglement_lib computes it.

    The mean over factors of (I(z_j; v_k) - I(z_i; v_k)) / H(v_k), j and i being the two
    latents that tell most of the factor, with latents in 20 bins [Chen et al. 2018b,
    eq. 6; Locatello et al. 2019]. The error is by the jackknife.

    Args:
      codes: `[N, latents]`, by that library's protocol the means of q(z | x).
      factors: `[N, factors]`.

    Returns:
      The score, 0 to 1.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    return jackknife(gap_of_codes, *paired_codes(codes, factors))


def gap_of_codes(codes: Codes, factors: Factors) -> float:
    """The gap of codes in bins, without its error."""
    gap = top_two_gap(information_matrix(codes, factors))
    return float((gap / factor_entropies(factors)).mean())


def modularity(codes: Codes, factors: Factors) -> Score:
    """Whether each latent tells of one factor alone [Ridgeway & Mozer 2018].

    The mean over latents of 1 - sum of I^2 with all but the best factor / ((F - 1) I^2
    with the best); a latent that tells nothing has 0. Latents are in 20 bins. The error
    is by the jackknife.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.

    Returns:
      The score, 0 to 1.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    return jackknife(modularity_of_codes, *paired_codes(codes, factors))


def modularity_of_codes(codes: Codes, factors: Factors) -> float:
    """The modularity of codes in bins, without its error."""
    squares = np.square(information_matrix(codes, factors))
    best = squares.max(1)
    rest = squares.sum(1) - best
    scale = best * max(1, squares.shape[1] - 1)
    return float(np.where(best > 0, 1 - rest / np.where(best > 0, scale, 1), 0).mean())


class GaussianLatents(NamedTuple):
    """Independent Gaussians of latents: a draw of each, its mean and its scale."""

    z: Float[np.ndarray, "N latents"]
    mean: Float[np.ndarray, "N latents"]
    scale: Float[np.ndarray, "N latents"]


class Gap(NamedTuple):
    """MIG by densities, and what it is of."""

    score: Score
    information: Float[np.ndarray, "latents factors"]
    """I(z_j; v_k), nats."""


def mutual_information_gap_of_densities(
    q: GaussianLatents, factors: Factors, draws: int = 2000
) -> Gap:
    """MIG by the densities of q(z | x), the estimator of [Chen et al. 2018b, eq. 5].

    I(z_j; v_k) = E log q(z_j | v_k) - log q(z_j), where q(z_j) is the mean of q(z_j |
    x_n) over all N examples and q(z_j | v_k) that over those of the factor's value; the
    expectation is over draws of `draws` of the examples. The paper's N is the whole
    grid: where a value has few examples, a draw's own density is a large part of their
    mean, and the information too large.

    Args:
      q: the posteriors of N examples, with a sample of each.
      factors: `[N, factors]`.
      draws: examples whose samples are weighed, at most.

    Returns:
      The score, with a standard error over draws, and the mutual information of each
      latent with each factor.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    paired_codes(q.mean, factors)
    rows = np.arange(min(draws, len(factors)))
    given = (jnp.asarray(a, jnp.float32) for a in (q.z[rows], q.mean, q.scale))
    values = jnp.asarray(factors)
    each = np.asarray(density_ratios(*given, values[rows], values), np.float64)
    information = np.maximum(each.mean(0), 0)
    entropies = factor_entropies(factors)
    order, columns = np.argsort(-information, 0), np.arange(factors.shape[1])
    gaps = each[:, order[0], columns] / entropies
    if len(order) > 1:
        gaps -= each[:, order[1], columns] / entropies
    value = float((top_two_gap(information) / entropies).mean())
    error = float(gaps.mean(1).std(ddof=1) / np.sqrt(len(rows)))
    return Gap(Score(value, error), information)


@jax.jit
def density_ratios(
    z: Array, mean: Array, scale: Array, own: Array, values: Array
) -> Float[Array, "draws latents factors"]:
    """log q(z_j | v_k) - log q(z_j) of draws, whose factors are `own`, nats."""
    count = len(mean)

    def one(given: tuple[Array, Array]) -> Array:
        z, own = given
        log_q = -0.5 * jnp.square((z[None] - mean) / scale) - jnp.log(scale)
        whole = jax.nn.logsumexp(log_q, 0) - jnp.log(count)  # [latents]
        same = values == own[None]  # [N, factors]
        alike = jnp.where(same[:, None], log_q[..., None], -jnp.inf)
        part = jax.nn.logsumexp(alike, 0) - jnp.log(same.sum(0))[None]
        return part - whole[:, None]

    return jax.lax.map(one, (z, own))
