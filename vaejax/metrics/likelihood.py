"""How probable the data is: ELBO, importance-weighted likelihood, bits/dim."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import has_density
from vaejax.errors import InputError
from vaejax.experiment import Metric
from vaejax.inference import Inference, infer, observed_log_prob, weigh
from vaejax.metrics.base import averages
from vaejax.types import Array, Batch, Distribution, Key, Variables


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


def squared_error(i: Inference, batch: Batch) -> Array:
    """Mean squared error of E[x | z] over an example's observed entries, `[batch]`."""
    square = jnp.square(i.px.mean[0] - batch["x"])
    axes = range(1, square.ndim)
    if "mask" not in batch:
        return square.mean(axes)
    mask = batch["mask"]
    return (square * mask).sum(axes) / jnp.maximum(mask.sum(axes), 1)


def reconstruction() -> Metric:
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
        log_p, bias = log_likelihood(
            model, variables, batch, key, samples, proposal="prior"
        )
        return {"nll_monte_carlo": -log_p, "nll_monte_carlo_bias": bias}

    return averages(("nll_monte_carlo", "nll_monte_carlo_bias"), values)


def baseline_nll() -> Metric:
    """-log p(x | context) of a deterministic baseline, nats."""

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        px: Any = nn.apply(lambda m: m.baseline(batch), model)(variables)
        return {"baseline_nll": -observed_log_prob(px, batch["x"][None])[0]}

    return averages(("baseline_nll",), values)


def nll(samples: int, *, dims: int, log_bin: float, chunk: int = 50) -> Metric:
    """Negative log-likelihood by importance sampling, nats, and as bits/dim.

    -log 1/S sum_s p(x, z_s) / q(z_s | x), S = `samples` exactly: an upper bound of
    -log p(x) in expectation [Burda et al. 2016, eq. 8]. `nll_se` is the standard error
    over examples; `nll_bias` what the finite S adds on average, to first order: half
    the relative variance of the mean weight.

    Args:
      dims: numbers in one example.
      log_bin: log width of a value's bin for densities, 0 for probabilities.
      chunk: samples that are decoded at once.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        log_p, bias = log_likelihood(model, variables, batch, key, samples, chunk)
        count = dims
        if "mask" in batch:  # of what is observed
            count = jnp.maximum(batch["mask"].reshape(len(log_p), -1).sum(-1), 1)
        bits = (-log_p / count - log_bin) / math.log(2)
        return {"nll": -log_p, "nll_bias": bias, "bits_per_dim": bits}

    return averages(("nll", "nll_bias", "bits_per_dim"), values)


def log_likelihood(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    samples: int,
    chunk: int = 50,
    proposal: str = "posterior",
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """log p(x) of each example by importance sampling, and the estimate's bias, nats.

    The example is encoded once. Draw s has the key fold_in(key, s), so the result does
    not depend on `chunk`; draws beyond `samples` in the last chunk weigh nothing. The
    verb `proposal` is what z is drawn from: posterior, or prior (simple Monte Carlo).

    Raises:
      InputError: z or x has a point mass, whose density is infinite.
    """
    q: Any = model.apply(variables, batch, method=proposal)
    p: Any = model.apply(variables, batch, method="prior")
    require_density(q, "q(z | x)")
    chunk = min(chunk, samples)

    def log_weights(draws: Array) -> Float[Array, "chunk batch"]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, draws)
        z = jax.vmap(q.sample)(keys)
        px: Any = model.apply(variables, z, batch, method="likelihood")
        require_density(px, "p(x | z)")
        log_w = weigh(q, p, px, z, batch).log_w
        return jnp.where((draws < samples)[:, None], log_w, -jnp.inf)

    def fold(
        acc: tuple[Array, Array], start: Array
    ) -> tuple[tuple[Array, Array], None]:
        log_w = log_weights(start + jnp.arange(chunk))
        new = jax.nn.logsumexp(log_w, 0), jax.nn.logsumexp(2 * log_w, 0)
        return (jnp.logaddexp(acc[0], new[0]), jnp.logaddexp(acc[1], new[1])), None

    nothing = jnp.full(batch["x"].shape[0], -jnp.inf)
    starts = jnp.arange(0, samples, chunk)
    (log_sum, log_squares), _ = jax.lax.scan(fold, (nothing, nothing), starts)
    relative_variance = jnp.exp(log_squares - 2 * log_sum) - 1 / samples
    return log_sum - math.log(samples), relative_variance / 2


def require_density(distribution: Distribution, name: str) -> None:
    """InputError where the distribution is a point mass."""
    if not has_density(distribution):
        raise InputError(
            f"{name} is a point mass, so that this model has no log p(x): ask it to "
            "reconstruct, or train a model with a density as vae"
        )


def likelihood_metrics(
    samples: int, *, dims: int, log_bin: float
) -> Mapping[str, Metric]:
    """The ELBO's terms and, where `samples` > 0, the importance-weighted likelihood."""
    terms = {"terms": elbo_terms()}
    if samples == 0:
        return terms
    return terms | {"nll": nll(samples, dims=dims, log_bin=log_bin)}
