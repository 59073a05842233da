"""log p(x) by annealed importance sampling, and how far from it these numbers can be.

[Neal 2001; Wu et al. 2017], checked from both sides on data of the model itself
[Grosse et al. 2015].
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.latents import draw_keys
from vaejax.inference.terms import log_mean_exp
from vaejax.laboratory.annealing import (
    Path,
    adapted_steps,
    annealed_chains,
    reversed_chains,
    sigmoid_schedule,
)
from vaejax.laboratory.hmc import Evaluate
from vaejax.laboratory.joint import Joint, joint_of, simulated
from vaejax.laboratory.weights import weight_numbers
from vaejax.types import Array, Batch, Key, Variables

StartName = Literal["prior", "posterior"]
ADAPTING = 8
"""Chains that step sizes are found by, at most."""


def annealed_log_likelihood(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    chains: int,
    temperatures: int,
    leapfrog: int,
    start: StartName,
) -> dict[str, Float[Array, " batch"]]:
    """log p(x) of each example by chains along p(z) p(x | z)^beta, nats.

    In expectation a lower bound, closer than that of draws of q(z | x) where q is far
    from the posterior.

    Args:
      model: a latent model whose latents are real numbers.
      variables: its variables.
      batch: examples as the model sees them.
      key: of the chains.
      chains: of each example.
      temperatures: distributions on the way, the last of which is the posterior.
      leapfrog: steps of a trajectory.
      start: the density at beta = 0: p(z), or q(z | x) on the way
        q(z | x)^(1 - beta) p(x, z)^beta.

    Returns:
      `log_p`; the jackknife's `bias` and standard `error`; `ess`, effective chains; the
      mean `acceptance` of proposals, and `least_acceptance` of any temperature.

    Raises:
      InputError: latents or x have no density that chains can follow.
    """
    joint = joint_of(model, variables, batch)
    schedule = jnp.asarray(sigmoid_schedule(temperatures))
    evaluate, path, draw = annealing_of(joint, key, schedule, chains, leapfrog, start)
    draw_key, chain_key = jax.random.split(jax.random.fold_in(key, 1))
    found = annealed_chains(evaluate, draw(draw_key, chains), path, chain_key)
    numbers = weight_numbers(found.log_w)
    return {
        "log_p": numbers.log_p,
        "bias": numbers.bias,
        "error": numbers.error,
        "ess": numbers.ess,
        "acceptance": found.acceptance.mean(0),
        "least_acceptance": found.acceptance.min(0),
    }


def bidirectional_bounds(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    chains: int,
    temperatures: int,
    leapfrog: int,
    start: StartName,
) -> dict[str, Float[Array, " batch"]]:
    """Both sides of log p(x) for examples of the model itself, nats.

    The latents that an example was made of are an exact draw of its posterior: chains
    from there back to the start give an upper bound in expectation, `upper`, and the
    usual ones a lower one, `lower` [Grosse et al. 2015]. Their distance bounds
    the error of either.

    Args:
      model: as of `annealed_log_likelihood`, whose arguments these are.
      variables: of the model.
      batch: read for what the model is conditioned on, and where x has holes.
      key: of the examples and the chains.
      chains: of each example and direction.
      temperatures: distributions on the way.
      leapfrog: steps of a trajectory.
      start: the density at beta = 0.

    Returns:
      `lower` and `upper`.

    Raises:
      InputError: latents or x have no density that chains can follow.
    """
    data_key, key = jax.random.split(key)
    z, batch = simulated(model, variables, batch, data_key)
    joint = joint_of(model, variables, batch)
    schedule = jnp.asarray(sigmoid_schedule(temperatures))
    evaluate, path, draw = annealing_of(joint, key, schedule, chains, leapfrog, start)
    draw_key, up_key, down_key = jax.random.split(jax.random.fold_in(key, 1), 3)
    up = annealed_chains(evaluate, draw(draw_key, chains), path, up_key)
    exact = jnp.broadcast_to(z, (chains, *z.shape[1:]))
    down = reversed_chains(evaluate, exact, path, down_key)
    return {"lower": log_mean_exp(up.log_w), "upper": -log_mean_exp(down)}


Draw = Callable[[Key, int], Array]


def annealing_of(
    joint: Joint,
    key: Key,
    betas: Float[Array, " temperatures_and_one"],
    chains: int,
    leapfrog: int,
    start: StartName,
) -> tuple[Evaluate, Path, Draw]:
    """The densities of a path with its step sizes, and draws of its start."""
    if start == "prior":
        evaluate = joint.prior_and_likelihood
    else:
        evaluate = joint.posterior_and_weight

    def draw(key: Key, number: int) -> Array:
        keys = draw_keys(key, jnp.arange(number))
        return joint.prior_draws(keys) if start == "prior" else posterior(keys)

    def posterior(keys: Array) -> Array:
        return joint.posterior_draws(keys)[0]

    draw_key, key = jax.random.split(jax.random.fold_in(key, 0))
    first = draw(draw_key, min(chains, ADAPTING))
    steps = adapted_steps(evaluate, first, betas, key, leapfrog)
    return evaluate, Path(betas, steps, leapfrog), draw
