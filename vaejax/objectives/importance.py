"""Bounds from several importance samples, and other gradients of the ELBO."""

import jax.numpy as jnp

from vaejax.inference.bounds import Bound, importance_weighted, multiply_weighted
from vaejax.inference.gradients import GradientName, estimate
from vaejax.models import LatentModel
from vaejax.objectives.elbo import block_terms, gaussian_terms, sigma_term, terms
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
    return weighted(model, batch, key, bound=importance_weighted(samples), beta=beta)


def weighted(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    bound: Bound,
    gradient: GradientName = "pathwise",
    beta: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """Negative of any bound of importance weights, by any gradient, nats per example.

    loss = -E[bound(w_1, ..., w_n)], w_i = p(x, z_i) / q(z_i | x); the bounds are those
    of `vaejax.inference.bounds`: of IWAE [Burda et al. 2016], of several repeats of it
    or with the ELBO [Rainforth et al. 2018], of Renyi's divergences [Li & Turner 2016].

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      bound: the function of log-weights, and the number of draws.
      gradient: the estimator of the gradient: pathwise; stl, without the score
        [Roeder et al. 2017]; dreg, doubly reparameterized [Tucker et al. 2019]; vimco,
        for discrete latents [Mnih & Rezende 2016].
      beta: power of p(z) / q(z | x) in the weights that are trained on, as of `iwae`.

    Returns:
      The loss, a scalar, and the terms of `iwae`, nats.

    Raises:
      InputError: the model or the bound has no such gradient.
    """
    i, value = estimate(model, batch, key, bound=bound, gradient=gradient, beta=beta)
    loss = -value.mean()
    return loss, {
        "loss": loss,
        "bound": bound.value(i.log_w).mean(),
        "elbo": jnp.mean(i.log_w),
        "kl": jnp.mean(i.kl),
        **block_terms(i),
    } | sigma_term(i)


def averaged_elbo(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 1.0,
    samples: int = 1,
    gradient: GradientName = "pathwise",
) -> tuple[Array, Metrics]:
    """Negative ELBO, averaged over k = `samples` draws of its weights, nats an example.

    loss = -E[1/k sum_i log w_i], w_i = p(x, z_i) / q(z_i | x)
    [Burda et al. 2016, eq. 7]: log q - log p is that of the draws, where `elbo` has the
    KL term in closed form if there is one. Of one draw it is `iwae`. With `stl` the
    slope of log q at fixed z is left out, whose expectation is 0: where q is the exact
    posterior the gradient has no variance [Roeder et al. 2017].

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      beta: weight of log q(z | x) - log p(z); 1 is the ELBO.
      samples: draws of z for each example.
      gradient: the estimator of the gradient, as of `weighted`.

    Returns:
      The loss, a scalar, and the terms of `elbo`; `rate` is of the draws, `kl` analytic
      where it is known.

    Raises:
      InputError: the model has no such gradient.
    """
    mean = multiply_weighted(1, samples)
    i, value = estimate(model, batch, key, bound=mean, gradient=gradient, beta=beta)
    rate = jnp.mean(beta * (i.log_qz - i.log_pz))
    return -value.mean(), terms(i, rate) | gaussian_terms(i, beta)
