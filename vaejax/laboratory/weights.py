"""Estimates of log p(x) from importance weights, and how far to trust them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.latents import Keys, draw_keys
from vaejax.inference.terms import log_mean_exp
from vaejax.metrics.weights import pareto_khat, tail_length
from vaejax.types import Array, Key

LogWeights = Callable[[Keys], Float[Array, "draws batch"]]


class WeightNumbers(NamedTuple):
    """Numbers of the weights of each example; nats where not said otherwise."""

    log_p: Array
    """log of the mean weight: in expectation below log p(x)."""
    bias: Array
    """How much log_p is too low for lack of samples: the jackknife's estimate of
    log E[w] - E[log mean w] [Nowozin 2018]."""
    error: Array
    """Standard error of log_p over repetitions of the draws, by the jackknife."""
    ess: Array
    """Effective sample size (sum w)^2 / sum w^2 [Kish 1965]."""
    khat: Array
    """Pareto k-hat of the weights [Vehtari et al. 2024]; NaN of fewer than 25."""


def all_log_weights(
    log_weights: LogWeights, key: Key, samples: int, chunk: int = 50
) -> Float[Array, "samples batch"]:
    """Log-weights of `samples` draws, `chunk` at a time; draw s has the key
    fold_in(key, s), as `importance_log_likelihood` has it.
    """
    chunk = min(chunk, samples)
    starts = jnp.arange(0, samples, chunk)

    def some(start: Array) -> Array:
        return log_weights(draw_keys(key, start + jnp.arange(chunk)))

    found = jax.lax.map(some, starts)
    return found.reshape(-1, found.shape[-1])[:samples]


def weight_numbers(log_w: Float[Array, "samples ..."]) -> WeightNumbers:
    """The numbers of weights over the leading axis."""
    count = log_w.shape[0]
    log_p = log_mean_exp(log_w)
    share = jnp.exp(log_w - log_p[None]) / count  # of each weight in the sum
    ess = 1 / jnp.square(share).sum(0)
    if count == 1:
        nothing = jnp.full_like(log_p, jnp.nan)
        return WeightNumbers(log_p, nothing, nothing, ess, nothing)
    # log of the mean of all but one, minus log_p; rounding may make a share of 1 more.
    rest = jnp.log1p(-jnp.minimum(share, 1 - 1e-7)) - math.log1p(-1 / count)
    bias = -(count - 1) * rest.mean(0)
    variance = (count - 1) / count * jnp.square(rest - rest.mean(0)[None]).sum(0)
    return WeightNumbers(log_p, bias, jnp.sqrt(variance), ess, khat_of(log_w))


def khat_of(log_w: Float[Array, "samples ..."]) -> Array:
    """Pareto k-hat of weights over the leading axis."""
    tail = tail_length(log_w.shape[0])
    if not tail:
        return jnp.full(log_w.shape[1:], jnp.nan)
    each = log_w.reshape(log_w.shape[0], -1).T
    largest, _ = jax.lax.top_k(each, tail + 1)
    return pareto_khat(largest).reshape(log_w.shape[1:])
