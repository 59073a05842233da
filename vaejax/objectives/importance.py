"""Bounds from several importance samples."""

import jax.numpy as jnp

from vaejax.inference.terms import infer, log_mean_exp
from vaejax.models import LatentModel
from vaejax.objectives.elbo import sigma_term
from vaejax.types import Array, Batch, Key, Metrics


def iwae(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 1.0,
    samples: int = 5,
) -> tuple[Array, Metrics]:
    """Negative importance-weighted bound over k = `samples` draws, nats per example.

    loss = -E[log 1/k sum_i w_i], w_i = p(x, z_i) / q(z_i | x)
    [Burda et al. 2016, eq. 8]. Differentiating the log-mean-exp gives the paper's
    gradient (eq. 14): each draw's reparameterized gradient weighted by w_i / sum w.

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      beta: power of p(z) / q(z | x) in the weights that are trained on, where 1 is the
        bound. Less at the start keeps latents from being given up before they are of
        use, as the warm-up of an ELBO does [Sonderby et al. 2016, sec. 2.3].
      samples: draws of z for each example.

    Returns:
      The loss, a scalar, and `bound`, `elbo` and `kl`, averaged over the batch, nats;
      of a Gaussian likelihood also `sigma`. What beta means for sigma in an ELBO does
      not hold inside the mean of weights, so it is not logged.
    """
    i = infer(model, batch, key, samples)
    loss = -log_mean_exp(i.tempered(beta)).mean()
    return loss, {
        "loss": loss,
        "bound": log_mean_exp(i.log_w).mean(),
        "elbo": jnp.mean(i.log_w),
        "kl": jnp.mean(i.kl),
    } | sigma_term(i)
