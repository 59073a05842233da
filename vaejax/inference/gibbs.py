"""Markov chains over what is missing, which propose latents by the encoder."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax.distributions import encoding, expectation
from vaejax.inference.imputation import Imputation, importance_imputation, wide
from vaejax.inference.terms import complete
from vaejax.models import LatentModel
from vaejax.types import Array, Batch, Key, Variables

FIRST = 20
"""Importance samples that a chain's first completion is drawn from."""


def chain(
    model: LatentModel,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    samples: int,
    draws: int,
    accept: bool,
) -> Imputation:
    """Pseudo-Gibbs, or Metropolis within Gibbs if it may reject; all examples at once.

    A step draws z ~ q(z | x) from the completed example and then x_missing ~ p(x | z)
    [Rezende et al. 2014, sec. 4.4]. With `accept` z is kept with probability
    min(1, w' / w), w = p(x, z) / q(z | x), which makes p(x_missing | x_observed) the
    chain's law [Mattei & Frellsen 2018, algorithm 1]. With a model of missingness
    x_missing is kept with probability min(1, p(m | x') / p(m | x)) either way.

    Args:
      samples: steps; the first half is not used.
      draws: completions that are kept, evenly spaced over the second half.
      accept: whether z may be rejected.
    """
    start_key, key = jax.random.split(key)
    first = importance_imputation(
        model, variables, batch, start_key, samples=FIRST, draws=1, chunk=FIRST
    )
    encoded, move = transition(model, variables, batch, accept)

    def kept(carry: Any, key: Key) -> tuple[Any, tuple[Array, Array]]:
        carry, means = jax.lax.scan(move, carry, jax.random.split(key, thin))
        return carry, (carry[1], means.mean(0))

    thin = max(1, (samples - samples // 2) // draws)
    z_key, burn_key, keep_key = jax.random.split(key, 3)
    x = first.draws[0]
    z = encoded(x, z_key)
    burn = jax.random.split(burn_key, max(1, samples // 2))
    carry, _ = jax.lax.scan(move, (z, x), burn)
    _, (found, means) = jax.lax.scan(kept, carry, jax.random.split(keep_key, draws))
    nan = jnp.full(len(batch["x"]), jnp.nan)
    return Imputation(means.mean(0), found, first.log_evidence, nan)


def transition(
    model: LatentModel, variables: Variables, batch: Batch, accept: bool
) -> tuple[Callable[[Array, Key], Array], Callable[..., tuple[Any, Array]]]:
    """The draw of z `[1, batch, ...]` for completed x, and a step of the chain.

    The step is of the carry `(z, x)` and a key; it also gives the mean of x.
    """
    whole = {**batch, "mask": jnp.ones_like(batch["mask"])}

    def apply(name: str, *arguments: Any) -> Any:
        return model.apply(variables, *arguments, method=name)

    def encoded(x: Array, key: Key) -> Array:
        return apply("encode", {**whole, "x": x}).sample(key)[None]

    def log_weight(z: Array, x: Array) -> Array:
        return apply("weigh", {"z": z}, {**whole, "x": x}).log_w[0]

    def log_mask(x: Array) -> Array:
        return apply("log_missing", x[None], batch)[0]

    def move(carry: tuple[Array, Array], key: Key) -> tuple[Any, Array]:
        z, x = carry
        z_key, accept_key, x_key, mask_key = jax.random.split(key, 4)
        drawn = encoded(x, z_key)
        if accept:
            ratio = log_weight(drawn, x) - log_weight(z, x)
            drawn = accepted(accept_key, ratio, drawn, z)
        px = apply("decode", drawn, batch)
        new, mean = complete(batch, px.sample(x_key))[0], expectation(px)[0]
        if not model.ignorable:
            ratio = log_mask(new) - log_mask(x)
            new = accepted(mask_key, ratio, new[None], x[None])[0]
            mean = encoding(px, new[None])[0]
        return (drawn, new), mean

    return encoded, move


def accepted(key: Key, log_ratio: Array, new: Array, old: Array) -> Array:
    """`new` `[1, batch, ...]` with probability min(1, exp(log_ratio)), else `old`."""
    moves = jnp.log(jax.random.uniform(key, log_ratio.shape)) < log_ratio
    return jnp.where(wide(moves[None], new), new, old)
