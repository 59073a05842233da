"""Objectives of conditional models with a learned prior."""

from typing import Any

import jax.numpy as jnp

from vaejax.inference.terms import infer, observed_log_prob
from vaejax.objectives.adversarial import shared_latents
from vaejax.types import Array, Batch, Key, Metrics


def hybrid(
    model: Any, batch: Batch, key: Key, *, alpha: float | Array = 1.0
) -> tuple[Array, Metrics]:
    """alpha * L_CVAE + (1 - alpha) * L_GSNN, nats per example [Sohn et al., eq. 6-7].

    L_CVAE is the negative conditional ELBO; L_GSNN = -E_{p(z | context)}[log p(x | z)]
    by one draw, which trains the model as it is used: without seeing x.
    """
    i = infer(model, batch, key)
    negative_elbo = jnp.mean(i.kl - i.log_px)
    gsnn = stochastic(model, batch, key)
    total = alpha * negative_elbo + (1 - alpha) * gsnn
    kl = jnp.mean(i.kl)
    return total, {
        "loss": total,
        "elbo": -negative_elbo,
        "distortion": negative_elbo - kl,
        "kl": kl,
        "gsnn": gsnn,
    }


def stochastic(model: Any, batch: Batch, key: Key) -> Array:
    """L_GSNN (eq. 6), nats: the Gaussian stochastic network's loss."""
    px = model.decode(shared_latents(model, batch, key)[None], batch)
    return -observed_log_prob(px, batch["x"][None]).mean()


def arbitrary(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    mean_scale: float = 1e4,
    scale_rate: float = 1e-4,
) -> tuple[Array, Metrics]:
    """Negative conditional ELBO with a hyperprior on the prior, nats per example.

    loss = KL(q(z | x, seen) || p(z | seen)) - E_q[log p(x_unseen | z, seen)] + penalty,
    penalty = sum_d mu_d^2 / (2 mean_scale^2) - scale_rate (log sigma_d - sigma_d): so
    weak that it only keeps the prior's mu and sigma finite [Ivanov et al. 2019, eq. 6].
    """
    i = infer(model, batch, key)
    prior: Any = i.latents["z"].p
    scale = jnp.sqrt(prior.variance)
    far = jnp.square(prior.mean) / (2 * mean_scale**2)
    penalty = jnp.sum(far - scale_rate * (jnp.log(scale) - scale), -1).mean()
    kl, distortion = jnp.mean(i.kl), -jnp.mean(i.log_px)
    total = kl + distortion + penalty
    return total, {
        "loss": total,
        "elbo": -distortion - kl,
        "distortion": distortion,
        "kl": kl,
        "penalty": penalty,
    }


def baseline(model: Any, batch: Batch, key: Key) -> tuple[Array, Metrics]:
    """-log p(x | context) of the deterministic baseline, nats per example."""
    del key
    px = model.guess(batch)
    loss = -observed_log_prob(px, batch["x"][None]).mean()
    return loss, {"loss": loss}
