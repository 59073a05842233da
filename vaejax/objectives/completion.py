"""Objectives of conditional models with a learned prior [Sohn, Lee & Yan 2015]."""

from typing import Any

import jax.numpy as jnp

from vaejax.inference import infer, observed_log_prob
from vaejax.objectives.adversarial import drawn
from vaejax.types import Array, Batch, Key, Metrics


def hybrid(
    model: Any, batch: Batch, key: Key, *, alpha: float | Array = 1.0
) -> tuple[Array, Metrics]:
    """alpha * L_CVAE + (1 - alpha) * L_GSNN, nats per example (eq. 6 and 7).

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
    px = model.likelihood(drawn(model, batch, key)[None], batch)
    return -observed_log_prob(px, batch["x"][None]).mean()


def baseline(model: Any, batch: Batch, key: Key) -> tuple[Array, Metrics]:
    """-log p(x | context) of the deterministic baseline, nats per example."""
    del key
    px = model.baseline(batch)
    loss = -observed_log_prob(px, batch["x"][None]).mean()
    return loss, {"loss": loss}
