"""Gates: pure functions of step and terms that say whether a player moves.

They are part of the compiled step; whether a player moved is logged as `moved`.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from vaejax.experiment import Gate
from vaejax.types import Array, Metrics


def every(steps: int) -> Gate:
    """In every `steps`-th step: several critic moves for one of the generator.

    [Arjovsky et al. 2017, alg. 1: n_critic].
    """
    return lambda step, metrics: (step + 1) % steps == 0


def until(steps: int) -> Gate:
    """In the first `steps` steps only."""
    return lambda step, metrics: step < steps


def since(steps: int) -> Gate:
    """From step `steps` on, counted from 0."""
    return lambda step, metrics: step >= steps


def either(one: Gate, other: Gate) -> Gate:
    """Where one of two gates is open."""
    return lambda step, metrics: one(step, metrics) | other(step, metrics)


def equilibrium(
    level: float, margin: float, real: str = "critic/loss_real"
) -> Mapping[str, Gate]:
    """The gates of the code of Larsen et al. 2016, for critic and decoder.

    The critic rests while either of its costs is below level - margin, the decoder
    while either is above level + margin; where both would rest, both move. The costs
    are the mean losses of real subjects and of fakes.
    """
    fake = real.replace("real", "fake")

    def rests(metrics: Metrics) -> tuple[Array, Array]:
        costs = jnp.stack([metrics[real], metrics[fake]])
        critic = jnp.any(costs < level - margin)
        decoder = jnp.any(costs > level + margin)
        return critic, decoder

    def critic(step: Array, metrics: Metrics) -> Array:
        critic_rests, decoder_rests = rests(metrics)
        return ~critic_rests | decoder_rests

    def decoder(step: Array, metrics: Metrics) -> Array:
        critic_rests, decoder_rests = rests(metrics)
        return ~decoder_rests | critic_rests

    return {"critic": critic, "decoder": decoder}
