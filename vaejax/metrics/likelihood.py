"""How probable the data is: ELBO, importance-weighted likelihood, bits/dim."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import has_density
from vaejax.errors import InputError
from vaejax.experiment import Metric
from vaejax.inference.imputation import LEAST_ESS
from vaejax.inference.latents import Keys
from vaejax.inference.terms import (
    Inference,
    infer,
    log_mean_exp,
    log_observed,
    observed_log_prob,
    scored,
)
from vaejax.metrics.base import averages, ratio
from vaejax.metrics.weights import HIGH_KHAT, pareto_khat, tail_length
from vaejax.types import Array, Batch, Distribution, Key, Size, Variables


def elbo_terms() -> Metric:
    """ELBO, distortion -log p(x | z) and KL, nats per example, one draw of z each."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(infer, model)(variables, batch, key)
        return {
            "elbo": (i.log_px - i.kl)[0],
            "distortion": -i.log_px[0],
            "kl": i.kl[0],
        }

    return averages(("elbo", "distortion", "kl"), values)


def importance_bound(samples: int) -> Metric:
    """The bound of k = `samples` draws, nats: what `objectives.iwae` maximizes."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(partial(infer, samples=samples), model)(variables, batch, key)
        return {"bound": log_mean_exp(i.log_w)}

    return averages(("bound",), values)


def squared_error(i: Inference, batch: Batch) -> Array:
    """Mean squared error of E[x | z] over an example's scored entries, `[batch]`."""
    square = jnp.square(i.px.mean[0] - batch["x"])
    axes = range(1, square.ndim)
    counts = scored(batch)
    return (square * counts).sum(axes) / jnp.maximum(counts.sum(axes), 1)


def reconstruction_error() -> Metric:
    """Distortion -log p(x | z), nats, and the mean squared error of E[x | z]."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(infer, model)(variables, batch, key)
        return {"distortion": -i.log_px[0], "mse": squared_error(i, batch)}

    return averages(("distortion", "mse"), values)


def monte_carlo_nll(samples: int) -> Metric:
    """-log 1/S sum_s p(x | z_s), z_s ~ p(z): simple Monte Carlo, nats.

    Of a conditional model -log p(x | context) with draws of p(z | context), as the
    model is used [Sohn et al. 2015, eq. 5]. `nll` estimates the same number by
    importance sampling, with far smaller bias; the two must not be confused.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        found = monte_carlo_log_likelihood(model, variables, batch, key, samples)
        return {
            "nll_monte_carlo": -found.log_p,
            "nll_monte_carlo_bias": found.bias,
            "nll_monte_carlo_ess": found.ess,
        }

    return averages(
        ("nll_monte_carlo", "nll_monte_carlo_bias", "nll_monte_carlo_ess"), values
    )


def baseline_nll() -> Metric:
    """-log p(x | context) of a deterministic baseline, nats."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        px: Any = nn.apply(lambda m: m.guess(batch), model)(variables)
        return {"baseline_nll": -observed_log_prob(px, batch["x"][None])[0]}

    return averages(("baseline_nll",), values)


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


def nll(samples: int, *, log_bin: float, chunk: int = 50) -> Metric:
    """Negative log-likelihood by importance sampling, nats, and as bits/dim.

    -log 1/S sum_s p(x, z_s) / q(z_s | x), S = `samples` exactly: an upper bound of
    -log p(x) in expectation [Burda et al. 2016, eq. 8]. It is of the event that the
    ELBO bounds: scored entries and, of a model of missingness, the mask. Beside it
    stand what tells whether the weights can be trusted: the mean effective sample size
    `nll_ess`, the share of examples where it is below 10, `nll_low_ess`, and the share
    where Pareto k-hat is above 0.7, `nll_high_khat`.

    `bits_per_dim` divides the bits of all examples by the number of all their scored
    entries (`inference.scored`). Every `NAME_se` is a standard error over examples.

    Args:
      samples: importance samples of each example.
      log_bin: log width of a value's bin for densities, 0 for probabilities.
      chunk: samples that are decoded at once.
    """
    names = ["nll", "nll_bias", "nll_ess", "nll_low_ess"]
    names += ["nll_high_khat"] if tail_length(samples) else []

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        found = importance_log_likelihood(model, variables, batch, key, samples, chunk)
        count = scored_numbers(model, variables, batch)
        return {
            "nll": -found.log_p,
            "nll_bias": found.bias,
            "nll_ess": found.ess,
            "nll_low_ess": jnp.float32(found.ess < LEAST_ESS),
            "nll_high_khat": jnp.float32(found.khat > HIGH_KHAT),
            "count": count,
            "sum": count - found.log_p,  # of nll and count, for their covariance
        }

    reported, all_of = averages(tuple(names), values), (*names, "count", "sum")

    def compute(acc: dict[str, Any]) -> dict[str, Array]:
        nats, error = ratio(acc["nll"], acc["count"], acc["sum"])
        bits = {"bits_per_dim": nats - log_bin, "bits_per_dim_se": error}
        found = reported.compute({name: acc[name] for name in names})
        return {**found, **{name: n / math.log(2) for name, n in bits.items()}}

    return averages(all_of, values)._replace(compute=compute)


def scored_numbers(
    model: nn.Module, variables: Variables, batch: Batch
) -> Float[Array, " batch"]:
    """How many numbers of each example p(x | z) scores."""

    def event_dim(model: Any) -> int:
        return model.generate(batch, jax.random.key(0)[None]).event_dim

    axes = nn.apply(event_dim, model)(variables)  # nothing of it is computed
    counts = scored(batch, axes)
    return counts.reshape(len(counts), -1).sum(-1)


LogWeights = Callable[[Keys], Float[Array, "chunk batch"]]


def importance_log_likelihood(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    samples: int,
    chunk: int = 50,
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
    log_weights: LogWeights, examples: Size, key: Key, samples: int, chunk: int = 50
) -> LogLikelihood:
    """log of the mean of `samples` weights of each example, `chunk` draws at a time.

    The last chunk's draws beyond `samples` weigh nothing. Of the largest weights as
    many are kept as Pareto k-hat is fitted to.
    """
    chunk = min(chunk, samples)
    tail = tail_length(samples)

    def fold(acc: tuple[Array, ...], start: Array) -> tuple[tuple[Array, ...], None]:
        draws = start + jnp.arange(chunk)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, draws)
        log_w = jnp.where((draws < samples)[:, None], log_weights(keys), -jnp.inf)
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


def likelihood_metrics(samples: int, *, log_bin: float) -> Mapping[str, Metric]:
    """The ELBO's terms and, where `samples` > 0, the importance-weighted likelihood."""
    terms = {"terms": elbo_terms()}
    if samples == 0:
        return terms
    return terms | {"nll": nll(samples, log_bin=log_bin)}
