"""Hamiltonian Monte Carlo along the path of densities of annealing."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.types import Array, Key

JITTER = 0.2
"""Share by which the step of each transition varies: equal trajectories resonate."""

Evaluate = Callable[[Array], tuple[Array, Array]]
"""From z `[chains, batch, dims]` to log f0(z) and log f1(z) / f0(z)."""


class Point(NamedTuple):
    """Latents, and the densities f0^(1 - beta) f1^beta at them; nats."""

    z: Float[Array, "chains batch dims"]
    base: Float[Array, "chains batch"]
    """log f0(z)."""
    path: Float[Array, "chains batch"]
    """log f1(z) / f0(z)."""

    def log_f(self, beta: Array) -> Float[Array, "chains batch"]:
        """log of the density at beta."""
        return self.base + beta * self.path


def point_at(evaluate: Evaluate, z: Array) -> Point:
    """The densities at latents."""
    return Point(z, *evaluate(z))


def with_slope(evaluate: Evaluate, z: Array, beta: Array) -> tuple[Point, Array]:
    """The densities at latents, and the slope of that at beta."""

    def total(z: Array) -> tuple[Array, Point]:
        point = point_at(evaluate, z)
        return point.log_f(beta).sum(), point

    (_, point), slope = jax.value_and_grad(total, has_aux=True)(z)
    return point, slope


def hmc_transition(
    evaluate: Evaluate,
    point: Point,
    beta: Array,
    step: Float[Array, " batch"],
    key: Key,
    leapfrog: int,
) -> tuple[Point, Float[Array, "chains batch"]]:
    """A transition that leaves the density at beta as it is [Neal 2011, sec. 5.3.2].

    Args:
      evaluate: the densities.
      point: where the chains are.
      beta: the place on the path.
      step: size of a leapfrog step for each example.
      key: of momenta, jitter and acceptance.
      leapfrog: steps of a trajectory.

    Returns:
      Where the chains are then, and the probabilities with which they were to move.
    """
    momentum_key, jitter_key, accept_key = jax.random.split(key, 3)
    shape = point.base.shape
    momentum = jax.random.normal(momentum_key, point.z.shape)
    jitter = jax.random.uniform(jitter_key, shape, minval=1 - JITTER, maxval=1 + JITTER)
    size = (step[None] * jitter)[..., None]
    _, slope = with_slope(evaluate, point.z, beta)

    def leap(carry: tuple[Point, Array, Array], _: None) -> tuple[tuple, None]:
        at, p, slope = carry
        p = p + size / 2 * slope
        at, slope = with_slope(evaluate, at.z + size * p, beta)
        return (at, p + size / 2 * slope, slope), None

    start = point, momentum, slope
    (new, p, _), _ = jax.lax.scan(leap, start, None, length=leapfrog)
    kinetic = 0.5 * (jnp.square(momentum) - jnp.square(p)).sum(-1)
    ratio = new.log_f(beta) - point.log_f(beta) + kinetic
    # A trajectory that leaves float32 is rejected.
    probability = jnp.where(jnp.isnan(ratio), 0.0, jnp.exp(jnp.minimum(ratio, 0.0)))
    moves = jax.random.uniform(accept_key, shape) < probability
    return where_moved(moves, new, point), probability


def where_moved(moves: Array, new: Point, old: Point) -> Point:
    """`new` where a chain moves, else `old`."""
    z = jnp.where(moves[..., None], new.z, old.z)
    base = jnp.where(moves, new.base, old.base)
    return Point(z, base, jnp.where(moves, new.path, old.path))
