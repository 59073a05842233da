"""Bounds of log p(x) as functions of log-weights: which mean is taken, and where.

Each takes `log_w` `[draws, batch]`, nats, and grows by c where all log-weights do: its
slopes v_i = d bound / d log_w_i sum to 1.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from vaejax.inference.terms import log_mean_exp
from vaejax.types import Array


class Bound(NamedTuple):
    """A bound of so many draws, and how fast its slopes grow.

    `growth` maps slopes v `[draws, batch]` to d log v_i / d log_w_i, which the doubly
    reparameterized gradient needs; None where the bound has kinks.
    """

    draws: int
    value: Callable[[Array], Array]
    growth: Callable[[Array], Array] | None


def importance_weighted(samples: int) -> Bound:
    """log 1/K sum_k w_k, K = `samples` [Burda et al. 2016, eq. 8]."""
    return Bound(samples, log_mean_exp, one_less)


def multiply_weighted(samples: int, repeats: int) -> Bound:
    """1/M sum_m log 1/K sum_k w_mk, K = `samples` and M = `repeats`.

    [Rainforth et al. 2018: MIWAE]. M = 1 is IWAE, K = 1 the ELBO of M draws.
    """
    return Bound(
        samples * repeats,
        partial(mean_of_logs, repeats=repeats),
        lambda v: 1 - repeats * v,
    )


def combined(samples: int, elbo_weight: float) -> Bound:
    """beta ELBO + (1 - beta) IWAE_K of the same draws, beta = `elbo_weight`.

    [Rainforth et al. 2018: CIWAE]
    """
    return Bound(
        samples,
        partial(elbo_and_log_mean, elbo_weight=elbo_weight),
        partial(combined_growth, elbo_weight=elbo_weight),
    )


def renyi(samples: int, order: float) -> Bound:
    """1 / (1 - alpha) log 1/K sum_k w_k^(1 - alpha), alpha = `order`.

    [Li & Turner 2016]. Order 1 is the ELBO, 0 IWAE. Below 0 it is no lower
    bound where K is large.
    """
    return Bound(
        samples,
        partial(renyi_value, order=order),
        lambda v: (1 - order) * (1 - v),
    )


def largest_weight(samples: int) -> Bound:
    """max_k log w_k, the limit of Renyi's of order -infinity [Li & Turner 2016]."""
    return Bound(samples, lambda log_w: log_w.max(0), None)


def mean_of_logs(log_w: Array, repeats: int) -> Array:
    """The mean of `repeats` log-mean-exps, each of the next draws in a row."""
    groups = log_w.reshape(repeats, -1, *log_w.shape[1:])
    return (logsumexp(groups, axis=1) - jnp.log(groups.shape[1])).mean(0)


def elbo_and_log_mean(log_w: Array, elbo_weight: float) -> Array:
    """The mean with weight `elbo_weight`, and the log-mean-exp with the rest."""
    return elbo_weight * log_w.mean(0) + (1 - elbo_weight) * log_mean_exp(log_w)


def renyi_value(log_w: Array, order: float) -> Array:
    """The bound about the mean of log-weights, so that it keeps its digits near 1."""
    if order == 1:
        return log_w.mean(0)
    power = 1 - order
    mean = jax.lax.stop_gradient(log_w.mean(0))  # about which number, does not matter
    return mean + log_mean_exp(power * (log_w - mean[None])) / power


def one_less(v: Array) -> Array:
    """1 - v: the growth of a softmax."""
    return 1 - v


def combined_growth(v: Array, elbo_weight: float) -> Array:
    """That part of a slope which is a softmax, times the growth of that."""
    weighted = v - elbo_weight / len(v)
    return weighted / v * (1 - weighted / (1 - elbo_weight))
