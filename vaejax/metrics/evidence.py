"""log p(x) from importance weights, and how far to trust it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import has_density
from vaejax.errors import InputError
from vaejax.inference.latents import Keys, draw_keys
from vaejax.inference.terms import log_observed
from vaejax.metrics.weights import pareto_khat, tail_length
from vaejax.types import Array, Batch, Distribution, Key, Size, Variables


class LogLikelihood(NamedTuple):
    """Importance-sampled estimates for each example, `[batch]`."""

    log_p: Array
    """log p(x), nats."""
    bias: Array
    """Mean excess of -log_p for finite samples, to first order, nats: at most 1/2, so
    it says nothing where `ess` is small."""
    ess: Array
    """Effective sample size (sum w)^2 / sum w^2 [Kish 1965]."""
    khat: Array
    """Pareto k-hat of the weights [Vehtari et al. 2024]; NaN for under 25 samples."""


CHUNK = 50
"""Samples that are weighed at once."""
LogWeights = Callable[[Keys], Float[Array, "chunk batch"]]


def importance_log_likelihood(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    samples: int,
    chunk: int = CHUNK,
) -> LogLikelihood:
    """log p(x) of each example by importance sampling, nats, and how far to trust it.

    Draw s has the key fold_in(key, s), so the result does not depend on `chunk` (but
    for the entries that a model of missingness draws, a key for each chunk).

    Raises:
      InputError: z or x has a point mass, whose density is infinite.
    """

    def log_weights(keys: Keys) -> Array:
        i: Any = model.apply(variables, batch, keys, method="infer")
        for term in i.latents.values():
            require_density(term.q, "q(z | x)")
        require_density(i.px, "p(x | z)")
        return i.log_w

    return log_mean_weight(log_weights, batch["x"].shape[0], key, samples, chunk)


def monte_carlo_log_likelihood(
    model: nn.Module, variables: Variables, batch: Batch, key: Key, samples: int
) -> LogLikelihood:
    """log p(x) of each example by draws of the prior, nats: simple Monte Carlo.

    Raises:
      InputError: x has a point mass.
    """

    def log_weights(keys: Keys) -> Array:
        px: Any = model.apply(variables, batch, keys, method="generate")
        require_density(px, "p(x | z)")
        return log_observed(px, batch)

    return log_mean_weight(log_weights, batch["x"].shape[0], key, samples)


def log_mean_weight(
    log_weights: LogWeights, examples: Size, key: Key, samples: int, chunk: int = CHUNK
) -> LogLikelihood:
    """log of the mean of `samples` weights of each example, `chunk` draws at a time.

    The last chunk's draws beyond `samples` weigh nothing. Of the largest weights as
    many are kept as Pareto k-hat is fitted to.
    """
    chunk = min(chunk, samples)
    tail = tail_length(samples)

    def fold(acc: tuple[Array, ...], start: Array) -> tuple[tuple[Array, ...], None]:
        draws = start + jnp.arange(chunk)
        log_w = log_weights(draw_keys(key, draws))
        log_w = jnp.where((draws < samples)[:, None], log_w, -jnp.inf)
        log_sum, log_squares, largest = acc
        largest = jnp.concatenate([largest, log_w.T], -1)
        largest = jax.lax.top_k(largest, tail + 1)[0] if tail else largest[:, :1]
        return (
            jnp.logaddexp(log_sum, jax.nn.logsumexp(log_w, 0)),
            jnp.logaddexp(log_squares, jax.nn.logsumexp(2 * log_w, 0)),
            largest,
        ), None

    nothing = jnp.full(examples, -jnp.inf)
    start = nothing, nothing, jnp.repeat(nothing[:, None], tail + 1, 1)
    starts = jnp.arange(0, samples, chunk)
    (log_sum, log_squares, largest), _ = jax.lax.scan(fold, start, starts)
    return LogLikelihood(
        log_p=log_sum - math.log(samples),
        bias=(jnp.exp(log_squares - 2 * log_sum) - 1 / samples) / 2,
        ess=jnp.exp(2 * log_sum - log_squares),
        khat=pareto_khat(largest) if tail else jnp.full_like(log_sum, jnp.nan),
    )


def require_density(distribution: Distribution, name: str) -> None:
    """InputError where the distribution is a point mass."""
    if not has_density(distribution):
        raise InputError(
            f"{name} is a point mass, so that this model has no log p(x): ask it to "
            "reconstruct, or train a model with a density as vae"
        )
