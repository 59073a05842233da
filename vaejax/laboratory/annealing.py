"""Annealed importance sampling: chains from one density to another, and their weights.

The weights of [Neal 2001] are exact for transitions that do not depend on them: step
sizes are found by chains of their own before, and then stay.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.inference.terms import log_mean_exp
from vaejax.laboratory.hmc import Evaluate, Point, hmc_transition, point_at
from vaejax.types import Array, Key

TARGET = 0.65
"""Acceptance that step sizes are adapted to [Beskos et al. 2013]."""
RATE = 0.2
"""Change of log step size for each transition and unit of acceptance."""
FIRST_STEP = 0.5
WARM_UP = 30
"""Transitions at the first density, before step sizes count."""
STEEPNESS = 4.0
"""Half of the width of the logistic function that the schedule is cut from."""


class Path(NamedTuple):
    """An annealing from f0 to f1 along f0^(1 - beta) f1^beta."""

    betas: Float[Array, " temperatures_and_one"]
    """From 0 upwards."""
    steps: Float[Array, "temperatures batch"]
    """Step sizes."""
    leapfrog: int


class Annealed(NamedTuple):
    """Results of an annealing, after each temperature; nats."""

    log_w: Float[Array, "chains batch"]
    """Weights at the end."""
    log_z: Float[Array, "temperatures batch"]
    """log of the mean weight: an estimate of the normalizing constant."""
    path: Float[Array, "temperatures batch"]
    """E[log f1(z) / f0(z)] under the density at beta, by the weighted chains."""
    acceptance: Float[Array, "temperatures batch"]
    """Mean probability of a move."""


def sigmoid_schedule(temperatures: int) -> np.ndarray:
    """beta_0 = 0, ..., beta_T = 1, dense at both ends [Wu et al. 2017]."""
    t = np.linspace(-STEEPNESS, STEEPNESS, temperatures + 1)
    s = 1 / (1 + np.exp(-t))
    return ((s - s[0]) / (s[-1] - s[0])).astype(np.float32)


def adapted_steps(
    evaluate: Evaluate, z: Array, betas: Array, key: Key, leapfrog: int
) -> Float[Array, "temperatures batch"]:
    """Step sizes for each temperature, by chains that start at z.

    They follow the acceptance of the chains of each example.
    """

    def move(carry: tuple[Point, Array], x: tuple[Array, Array]) -> tuple:
        point, log_step = carry
        beta, number = x
        key_of = jax.random.fold_in(key, number)
        point, accept = hmc_transition(
            evaluate, point, beta, jnp.exp(log_step), key_of, leapfrog
        )
        log_step = log_step + RATE * (accept.mean(0) - TARGET)
        return (point, log_step), log_step

    many = jnp.concatenate([jnp.repeat(betas[1:2], WARM_UP), betas[1:]])
    start = point_at(evaluate, z), jnp.full(z.shape[1], jnp.log(FIRST_STEP))
    _, log_steps = jax.lax.scan(move, start, (many, jnp.arange(len(many))))
    return jnp.exp(log_steps[WARM_UP:])


def annealed_chains(evaluate: Evaluate, z: Array, path: Path, key: Key) -> Annealed:
    """Chains from f0 to the last beta: E[exp(log_w)] is the ratio of their integrals.

    Args:
      evaluate: log f0 and log f1 / f0.
      z: draws of f0, `[chains, batch, dims]`; f0 is normalized.
      path: the temperatures.
      key: of the chains.
    """

    def move(carry: tuple[Point, Array], x: tuple[Array, ...]) -> tuple:
        point, log_w = carry
        before, beta, step, number = x
        log_w = log_w + (beta - before) * point.path
        point, accept = hmc_transition(
            evaluate, point, beta, step, jax.random.fold_in(key, number), path.leapfrog
        )
        mean = (jax.nn.softmax(log_w, 0) * point.path).sum(0)
        return (point, log_w), (log_mean_exp(log_w), mean, accept.mean(0))

    start = point_at(evaluate, z), jnp.zeros(z.shape[:2])
    (_, log_w), found = jax.lax.scan(move, start, steps_of_path(path))
    return Annealed(log_w, *found)


def reversed_chains(
    evaluate: Evaluate, z: Array, path: Path, key: Key
) -> Float[Array, "chains batch"]:
    """Chains from draws z of the last density back to f0 [Grosse et al. 2015].

    Returns:
      log r of each chain: E[r] is one over the ratio that `annealed_chains` estimates.
    """

    def move(carry: tuple[Point, Array], x: tuple[Array, ...]) -> tuple:
        point, log_r = carry
        before, beta, step, number = x
        point, _ = hmc_transition(
            evaluate, point, beta, step, jax.random.fold_in(key, number), path.leapfrog
        )
        return (point, log_r + (before - beta) * point.path), None

    start = point_at(evaluate, z), jnp.zeros(z.shape[:2])
    (_, log_r), _ = jax.lax.scan(move, start, steps_of_path(path), reverse=True)
    return log_r


def steps_of_path(path: Path) -> tuple[Array, ...]:
    """Inputs of a path's transitions: beta before and at each, step size, number."""
    numbers = jnp.arange(len(path.betas) - 1)
    return path.betas[:-1], path.betas[1:], path.steps, numbers
