"""Codebooks: nearest codes, how often each is used, Lloyd's algorithm."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from vaejax.types import Array, Key

Points = Float[Array, "points channels"]
Codebook = Float[Array, "size channels"]
EXACT = jax.lax.Precision.HIGHEST
"""Products in float32: a code that is nearest shall be so on every device."""


def distances(points: Points, codebook: Codebook) -> Float[Array, "points size"]:
    """Squared distances, up to a term of each point that is the same for all codes."""
    products = jnp.matmul(points, codebook.T, precision=EXACT)
    return jnp.square(codebook).sum(-1)[None] - 2 * products


def nearest_codes(points: Points, codebook: Codebook) -> Int[Array, " points"]:
    """The code nearest to each point; of equal ones the first."""
    return jnp.argmin(distances(points, codebook), -1).astype(jnp.int32)


def choice_logits(
    h: Float[Array, "... channels"], codebook: Codebook, softness: float
) -> Float[Array, "... size"]:
    """Those of a soft choice of a code: minus squared distances / softness."""
    away = distances(h.reshape(-1, h.shape[-1]), codebook) / softness
    return -away.reshape(*h.shape[:-1], -1)


class Assigned(NamedTuple):
    """The points that each code is nearest to: how many, and their sum."""

    counts: Float[Array, " size"]
    sums: Codebook


def assigned(points: Points, codes: Int[Array, " points"], size: int) -> Assigned:
    """Counts and sums of the points of each code."""
    counts = jax.ops.segment_sum(jnp.ones(len(codes)), codes, size)
    return Assigned(counts, jax.ops.segment_sum(points, codes, size))


def code_means(found: Assigned, codebook: Codebook) -> Codebook:
    """The mean of each code's points; codes that have none stay as they are."""
    counts = found.counts[:, None]
    return jnp.where(counts > LEAST, found.sums / jnp.maximum(counts, LEAST), codebook)


LEAST = 1e-12
"""A count of a moving average that is as good as none."""


def lloyd_step(points: Points, codebook: Codebook) -> Codebook:
    """Each code at the mean of the points that it is nearest to [Lloyd 1982]."""
    codes = nearest_codes(points, codebook)
    return code_means(assigned(points, codes, len(codebook)), codebook)


def k_means(points: Points, size: int, key: Key, steps: int = 10) -> Codebook:
    """A codebook by Lloyd's algorithm, from points of which none is taken twice.

    A code without points moves to one that is far from its own code, so that a point
    which occurs often, as a black patch does, is no place for many codes.

    Args:
      points: at least as many as codes.
      size: number of codes.
      key: of the points that it begins with, and of such moves.
      steps: of the algorithm; after the last one no code moves.
    """
    first, later = jax.random.split(key)
    codebook = points[jax.random.permutation(first, len(points))[:size]]

    def step(number: Array, codebook: Codebook) -> Codebook:
        codes = nearest_codes(points, codebook)
        found = assigned(points, codes, size)
        places = far_places(
            points, codebook[codes], size, jax.random.fold_in(later, number)
        )
        empty = (found.counts == 0)[:, None]
        return jnp.where(empty, points[places], code_means(found, codebook))

    return lloyd_step(points, jax.lax.fori_loop(0, steps, step, codebook))


def far_places(
    points: Points, entries: Points, count: int, key: Key
) -> Int[Array, " count"]:
    """Places of points, drawn in proportion to their squared distance to their codes.

    As in [Arthur & Vassilvitskii 2007].

    Args:
      points: which were assigned to codes.
      entries: the code of each.
      count: how many places.
      key: of the draws.
    """
    mass = jnp.cumsum(jnp.square(points - entries).sum(-1))
    drawn = jax.random.uniform(key, (count,)) * mass[-1]
    places = jnp.searchsorted(mass, drawn, side="right")
    return jnp.minimum(places, len(points) - 1).astype(jnp.int32)


def count_codes(
    codes: Int[Array, "... levels"], size: int, weight: Array | None = None
) -> Int[Array, "levels size"]:
    """How often each code of each level occurs.

    Args:
      codes: with any axes before that of levels; the first is that of examples.
      size: number of codes.
      weight: 1 of examples that count, 0 of others; None: all count.
    """
    levels = codes.shape[-1]
    rows = codes.reshape(codes.shape[0], -1, levels)
    ones = jnp.ones(codes.shape[:1]) if weight is None else weight
    ones = jnp.broadcast_to(ones.astype(jnp.int32)[:, None, None], rows.shape)
    places = (rows + size * jnp.arange(levels)[None, None]).reshape(-1)
    counts = jax.ops.segment_sum(ones.reshape(-1), places, levels * size)
    return counts.reshape(levels, size)


def share_used(counts: Int[Array, "levels size"]) -> Float[Array, ""]:
    """Share of the codes that occur, the mean over levels."""
    return jnp.mean((counts > 0).astype(jnp.float32))


def code_entropy(counts: Int[Array, "levels size"]) -> Float[Array, ""]:
    """Entropy of a code by its frequency, nats, the mean over levels."""
    total = jnp.maximum(counts.sum(-1, keepdims=True), 1)
    share = counts / total
    return -jnp.where(share > 0, share * jnp.log(share), 0.0).sum(-1).mean()
