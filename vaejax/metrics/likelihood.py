"""ELBO, importance-weighted log-likelihood and bits/dim."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.experiment import Metric, Quantity
from vaejax.inference.imputation import LEAST_ESS
from vaejax.inference.terms import (
    Inference,
    infer,
    log_mean_exp,
    observed_log_prob,
    scored,
)
from vaejax.metrics.base import averages, ratio
from vaejax.metrics.evidence import (
    CHUNK,
    importance_log_likelihood,
    monte_carlo_log_likelihood,
)
from vaejax.metrics.weights import HIGH_KHAT, tail_length
from vaejax.types import Array, Batch, Key, Variables

ELBO = Quantity("evidence lower bound, one draw of z an example", "nats", in_line=True)
DISTORTION = Quantity("-log p(x | z)", "nats", in_line=True)
KL = Quantity("KL(q(z | x) || p(z))", "nats", in_line=True)
MSE = Quantity("squared error of E[x | z]", "model's units squared", in_line=True)
ESS = Quantity("mean effective sample size of its weights")
BIAS = Quantity("its excess for lack of samples, to first order", "nats")


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

    return averages({"elbo": ELBO, "distortion": DISTORTION, "kl": KL}, values)


def importance_bound(
    samples: int, value: Callable[[Array], Array] = log_mean_exp
) -> Metric:
    """The bound of `samples` draws, nats: what `objectives.weighted` maximizes.

    `value` maps log-weights `[samples, batch]` to it; by default it is that of IWAE.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(partial(infer, samples=samples), model)(variables, batch, key)
        return {"bound": value(i.log_w)}

    bound = Quantity("importance-weighted bound as it is trained", "nats", in_line=True)
    return averages({"bound": bound}, values)


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

    return averages({"distortion": DISTORTION, "mse": MSE}, values)


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

    nll = Quantity("-log p(x | context) by draws of p(z | context)", "nats")
    quantities = {
        "nll_monte_carlo": nll,
        "nll_monte_carlo_bias": BIAS,
        "nll_monte_carlo_ess": ESS,
    }
    return averages(quantities, values)


def baseline_nll() -> Metric:
    """-log p(x | context) of a deterministic baseline, nats."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        px: Any = nn.apply(lambda m: m.guess(batch), model)(variables)
        return {"baseline_nll": -observed_log_prob(px, batch["x"][None])[0]}

    meaning = "-log p(x | context) of the baseline"
    return averages({"baseline_nll": Quantity(meaning, "nats", in_line=True)}, values)


def nll(samples: int, *, log_bin: float, chunk: int = CHUNK) -> Metric:
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
    quantities = {
        "nll": Quantity("-log p(x) by importance sampling", "nats"),
        "nll_ess": ESS,
        "nll_low_ess": Quantity("share of examples where that is below 10"),
        "nll_high_khat": Quantity("share where Pareto k-hat of them exceeds 0.7"),
        "nll_bias": BIAS,
    }
    if not tail_length(samples):
        del quantities["nll_high_khat"]
    bits_per_dim = Quantity("the same for each scored number", "bits/dim")

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

    inner = {"count": Quantity("scored numbers"), "sum": Quantity("nll + count")}
    reported = averages(quantities, values)
    all_of = averages(quantities | inner, values)

    def compute(acc: dict[str, Any]) -> dict[str, Array]:
        nats, error = ratio(acc["nll"], acc["count"], acc["sum"])
        bits = {"bits_per_dim": nats - log_bin, "bits_per_dim_se": error}
        found = reported.compute({name: acc[name] for name in quantities})
        return {**found, **{name: n / math.log(2) for name, n in bits.items()}}

    told = {"nll": quantities["nll"], "bits_per_dim": bits_per_dim, **quantities}
    return all_of._replace(compute=compute, quantities=told)


def scored_numbers(
    model: nn.Module, variables: Variables, batch: Batch
) -> Float[Array, " batch"]:
    """Number of entries of each example that p(x | z) scores."""

    def event_dim(model: Any) -> int:
        return model.generate(batch, jax.random.key(0)[None]).event_dim

    axes = nn.apply(event_dim, model)(variables)  # nothing of it is computed
    counts = scored(batch, axes)
    return counts.reshape(len(counts), -1).sum(-1)


def likelihood_metrics(samples: int, *, log_bin: float) -> Mapping[str, Metric]:
    """The ELBO's terms and, where `samples` > 0, the importance-weighted likelihood."""
    terms = {"terms": elbo_terms()}
    if samples == 0:
        return terms
    return terms | {"nll": nll(samples, log_bin=log_bin)}
