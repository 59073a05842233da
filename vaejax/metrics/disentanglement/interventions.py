"""Scores by what codes do where one factor is held, among a fixed set of examples."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.metrics.disentanglement.base import (
    Codes,
    Factors,
    Score,
    accuracy_score,
    paired_codes,
)
from vaejax.metrics.disentanglement.information import histogram_bins
from vaejax.metrics.disentanglement.linear import logistic_regression
from vaejax.types import Array, Key

BATCH = 64
"""Examples of a vote, or pairs of a point."""
TRAIN, TEST = 10_000, 5_000
PRUNED = 0.05
"""Standard deviation below which a latent has no vote."""
QUANTILE = 0.99


class Groups(NamedTuple):
    """Examples by the value of each factor.

    Those that share the value of factor k with example n are `order[k, start[k, n]]`
    and the `count[k, n]` - 1 after it.
    """

    order: Array
    start: Array
    count: Array


def value_groups(factors: Factors) -> Groups:
    """The examples of each value of each factor."""
    order = np.argsort(factors, 0, kind="stable").T
    start, end = (
        np.stack([np.searchsorted(np.sort(v), v, side) for v in factors.T])
        for side in ("left", "right")
    )
    arrays = (order, start, end - start)
    return Groups(*(jnp.asarray(a, jnp.int32) for a in arrays))


def beta_vae_score(
    codes: Codes,
    factors: Factors,
    *,
    seed: int = 0,
    batch: int = BATCH,
    train: int = TRAIN,
    test: int = TEST,
) -> Score:
    """Accuracy of a linear classifier of which factor pairs share.

    A point is the mean over `batch` pairs of |z - z'|, where both examples of a pair
    share a factor, the same in all pairs, and are drawn at random otherwise [Higgins et
    al. 2017]; the classifier is a logistic regression with an L2 penalty, as in
    disentanglement_lib.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.
      seed: of the draws among these examples, with replacement.
      batch: pairs of a point.
      train: points to fit on.
      test: points to score.

    Returns:
      The accuracy, with its binomial error; chance is 1 / F.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    keys = jax.random.split(jax.random.key(seed), train + test)
    z, groups = jnp.asarray(codes, jnp.float32), value_groups(factors)
    x, y = map(np.asarray, pair_differences(z, groups, keys, batch))
    model = logistic_regression(x[:train], y[:train], factors.shape[1])
    return accuracy_score(model.predict(x[train:]) == y[train:])


@partial(jax.jit, static_argnums=3)
def pair_differences(
    z: Array, groups: Groups, keys: Key, batch: int
) -> tuple[Array, Array]:
    """Points `[points, latents]` and the factor that the pairs of each share."""

    def point(k: Array, first: Key, second: Key) -> Array:
        rows = jax.random.randint(first, (batch,), 0, len(z))
        others = sharing(groups, k, rows, jax.random.uniform(second, (batch,)))
        return jnp.abs(z[rows] - z[others]).mean(0)

    return with_factors(point, groups, keys)


def with_factors(
    draw: Callable[[Array, Key, Key], Array], groups: Groups, keys: Key
) -> tuple[Array, Array]:
    """`draw` for a random factor at each key, with two keys of its own; the factors."""

    def one(key: Key) -> tuple[Array, Array]:
        which, first, second = jax.random.split(key, 3)
        k = jax.random.randint(which, (), 0, len(groups.order))
        return draw(k, first, second), k

    return jax.lax.map(one, keys, batch_size=256)


def sharing(groups: Groups, k: Array, rows: Array, u: Array) -> Array:
    """Examples that share factor k with those in `rows`, by uniform numbers."""
    count = groups.count[k, rows]
    place = jnp.minimum((u * count).astype(jnp.int32), count - 1)
    return groups.order[k, groups.start[k, rows] + place]


def factor_vae_score(
    codes: Codes,
    factors: Factors,
    *,
    seed: int = 0,
    batch: int = BATCH,
    train: int = TRAIN,
    test: int = TEST,
) -> Score:
    """Accuracy of a majority vote by the latent that varies least.

    A vote is the latent with the least variance, relative to that over all examples,
    among `batch` examples that share a factor [Kim & Mnih 2018, sec. 4]. Latents whose
    standard deviation is below 0.05 have no vote; without any the score is 0, as in
    disentanglement_lib.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.
      seed: of the draws among these examples, with replacement.
      batch: examples of a vote.
      train: votes that make the classifier.
      test: votes to score.

    Returns:
      The accuracy, with its binomial error; chance is 1 / F.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    variance = codes.var(0, ddof=1)
    active = np.sqrt(variance) >= PRUNED
    if not active.any():
        return Score(0.0)
    keys = jax.random.split(jax.random.key(seed), train + test)
    z = jnp.asarray(codes[:, active] / np.sqrt(variance[active]), jnp.float32)
    latent, k = map(np.asarray, least_varying(z, value_groups(factors), keys, batch))
    votes = np.zeros((z.shape[1], factors.shape[1]), int)
    np.add.at(votes, (latent[:train], k[:train]), 1)
    return accuracy_score(votes.argmax(1)[latent[train:]] == k[train:])


@partial(jax.jit, static_argnums=3)
def least_varying(
    z: Array, groups: Groups, keys: Key, batch: int
) -> tuple[Array, Array]:
    """Votes `[votes]`: the latent that varies least, and the factor that was held."""

    def vote(k: Array, first: Key, rest: Key) -> Array:
        row = jnp.full(batch, jax.random.randint(first, (), 0, len(z)))
        rows = sharing(groups, k, row, jax.random.uniform(rest, (batch,)))
        return jnp.argmin(z[rows].var(0, ddof=1))

    return with_factors(vote, groups, keys)


def interventional_robustness(codes: Codes, factors: Factors) -> float:
    """Robustness of latents to other factors while their own is held (IRS).

    1 - E |z_j - E[z_j | v_k]| / max |z_j - E[z_j]|, with the largest deviation among
    the examples of a value for the first E (its 99th percentile, as in
    disentanglement_lib), averaged over the values of factor k; of each latent the best
    factor counts, and latents are weighed by their largest deviation [Suter et al.
    2019]. Factors are in 20 bins, constant latents left out, as there.

    Args:
      codes: `[N, latents]`.
      factors: `[N, factors]`.

    Returns:
      The score, 0 to 1; 0 where all latents are constant.

    Raises:
      InputError: shapes do not fit, or a factor is constant.
    """
    codes, factors = paired_codes(codes, factors)
    codes = codes[:, codes.var(0) > 0]
    if not codes.shape[1]:
        return 0.0
    most = np.abs(codes - codes.mean(0)).max(0)
    matrix = np.empty((codes.shape[1], factors.shape[1]))
    for k, column in enumerate(histogram_bins(factors.astype(float)).T):
        within = [codes[column == value] for value in np.unique(column)]
        moved = [
            np.percentile(np.abs(z - z.mean(0)), 100 * QUANTILE, axis=0) for z in within
        ]
        matrix[:, k] = 1 - np.mean(moved, 0) / most
    return float(np.average(matrix.max(1), weights=most))
