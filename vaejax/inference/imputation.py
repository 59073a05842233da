"""Filling in what is not observed: draws and means of p(x_missing | x_observed).

By importance sampling, which is exact in the limit of many samples [Mattei & Frellsen
2019, sec. 3.3], or by Markov chains [Rezende et al. 2014; Mattei & Frellsen 2018].
All is vectorized over examples; samples stream through in chunks.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Float

from vaejax.distributions import encoding, expectation
from vaejax.inference.latents import draw_keys
from vaejax.inference.terms import Inference, complete
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch, Key, Variables

LEAST_ESS = 10.0
"""Effective samples below which an example's weights are said to collapse."""


class Imputation(NamedTuple):
    """Estimates of p(x_missing | x_observed) for each example.

    `mean` are expectations as `distributions.expectation` gives them (of a category,
    the probability of each value), also of entries that are observed; `draws` are whole
    examples, equally weighted.
    """

    mean: Float[Array, "batch ..."]
    draws: Float[Array, "draws batch ..."]
    log_evidence: Float[Array, " batch"]
    """Estimate of log p(x_observed), of a model of missingness log p(x_observed, m)."""
    ess: Float[Array, " batch"]
    """Effective sample size (sum w)^2 / sum w^2 [Kish 1965]."""


class Weighted(NamedTuple):
    """Completions of a chunk: `[chunk, batch, ...]`, and their log-weights, nats."""

    log_w: Float[Array, "chunk batch"]
    mean: Array
    x: Array


def importance_imputation(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    samples: int,
    draws: int,
    chunk: int = 50,
    noise: bool = True,
    of_means: bool = False,
) -> Imputation:
    """Self-normalized importance sampling, and sampling importance resampling.

    The mean is sum_k w_k E[x | z_k] / sum_k w_k with z_k ~ q(z | x_observed); with a
    model of missingness the completions x_k that its weights are of replace
    E[x | z_k]. `draws` completions are drawn with probabilities proportional to w,
    in one pass: those kept so far are replaced by one of a new chunk with the chunk's
    share of all weight [Chao 1982].

    Args:
      model: a `vaejax.models.LatentModel`.
      variables: what it is applied with.
      batch: examples and their `mask`.
      key: of all noise.
      samples: importance samples of each example.
      draws: completions that are kept of each example.
      chunk: samples that are decoded at once.
      noise: draw completions from p(x | z); without, draws are E[x | z] (of a model of
        missingness completions all the same), which vary less than what is missing.
      of_means: average E[x | z_k] also with a model of missingness, as if completions
        told nothing beyond their z: not what its weights are of.
    """
    chunk = min(chunk, samples)
    pick_key, key = jax.random.split(key)
    weighted = weighing(model, variables, batch, key, samples, of_means)

    def drawn(some: Weighted) -> Array:
        return some.x if noise else some.mean

    def fold(acc: Any, start: Array) -> tuple[Any, None]:
        log_sum, log_squares, mean, kept = acc
        new = weighted(start + jnp.arange(chunk))
        log_new = logsumexp(new.log_w, 0)
        log_total = jnp.logaddexp(log_sum, log_new)
        share = jnp.exp(new.log_w - log_total[None])
        old = jnp.exp(log_sum - log_total)
        mean = wide(old, mean) * mean + jnp.einsum("kb,kb...->b...", share, new.mean)
        chosen_key, swap_key = jax.random.split(jax.random.fold_in(pick_key, start))
        shape = (draws, len(batch["x"]))
        chosen = choose(chosen_key, new.log_w, shape)
        swap = jax.random.uniform(swap_key, shape) < jnp.exp(log_new - log_total)[None]
        fresh = jnp.take_along_axis(drawn(new), wide(chosen, drawn(new)), 0)
        kept = jnp.where(wide(swap, kept), fresh, kept)
        log_squares = jnp.logaddexp(log_squares, logsumexp(2 * new.log_w, 0))
        return (log_total, log_squares, mean, kept), None

    example = jax.eval_shape(weighted, jnp.arange(chunk))
    nothing = jnp.full(len(batch["x"]), -jnp.inf)
    no_mean = jnp.zeros(example.mean.shape[1:])
    no_draws = jnp.zeros((draws, *drawn(example).shape[1:]))
    start = nothing, nothing, no_mean, no_draws
    starts = jnp.arange(0, samples, chunk)
    (log_sum, log_squares, mean, kept), _ = jax.lax.scan(fold, start, starts)
    return Imputation(
        mean=mean,
        draws=kept,
        log_evidence=log_sum - jnp.log(samples),
        ess=jnp.exp(2 * log_sum - log_squares),
    )


def weighing(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    samples: int,
    of_means: bool,
) -> Any:
    """A function from the numbers of samples to weighted completions; those from
    `samples` on weigh nothing.
    """

    def weighted(numbers: Array) -> Weighted:
        keys = draw_keys(key, numbers)
        i: Any = model.apply(variables, batch, keys, method="impute")
        hole_key = jax.random.fold_in(keys[0], OfObjective.HOLES)
        x, mean = completed_draws(i, batch, hole_key, of_means)
        log_w = jnp.where((numbers < samples)[:, None], i.log_w, -jnp.inf)
        return Weighted(log_w, mean, x)

    return weighted


def completed_draws(
    i: Inference, batch: Batch, key: Key, of_means: bool
) -> tuple[Array, Array]:
    """Completed examples and E[x | z] for each draw; where the weights are of drawn
    completions, these are both, but for `of_means`.
    """
    if i.x is None:
        return complete(batch, i.px.sample(key)), expectation(i.px)
    return i.x, expectation(i.px) if of_means else encoding(i.px, i.x)


def choose(
    key: Key, log_w: Float[Array, "chunk batch"], shape: tuple[int, ...]
) -> Array:
    """Places `[draws, batch]` along the chunk, with probabilities proportional to w.

    By the inverse of the distribution function: one random number a draw.
    """
    total = jnp.cumsum(jax.nn.softmax(log_w, 0), 0)
    u = jax.random.uniform(key, shape) * total[-1:]
    return (total[None, :-1] <= u[:, None]).sum(1)


def wide(values: Array, like: Array) -> Array:
    """With further axes of size 1, as many as `like` has."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))
