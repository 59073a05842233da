"""Bounds from several importance samples."""

import jax.numpy as jnp
from jax.nn import logsumexp

from vaejax.inference import infer
from vaejax.objectives.elbo import gaussian_terms
from vaejax.types import Array, Batch, Key, LatentModel, Metrics


def iwae(
    model: LatentModel, batch: Batch, key: Key, *, samples: int = 5
) -> tuple[Array, Metrics]:
    """Negative importance-weighted bound over k = `samples` draws, nats per example.

    loss = -E[log 1/k sum_i w_i], w_i = p(x, z_i) / q(z_i | x)
    [Burda et al. 2016, eq. 8]. Differentiating the log-mean-exp gives the paper's
    gradient (eq. 14): each draw's reparameterized gradient weighted by w_i / sum w.
    """
    i = infer(model, batch, key, samples)
    bound = log_mean_exp(i.log_w).mean()
    return -bound, {
        "loss": -bound,
        "bound": bound,
        "elbo": jnp.mean(i.log_w),
        "kl": jnp.mean(i.kl),
    } | gaussian_terms(i, 1.0)


def log_mean_exp(log_w: Array) -> Array:
    """log of the mean over the leading (sample) axis."""
    return logsumexp(log_w, axis=0) - jnp.log(log_w.shape[0])
