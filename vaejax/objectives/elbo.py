"""The evidence lower bound and its close relatives.

Every objective is `objective(model, batch, key, **hyper) -> (loss, terms)`: a scalar in
nats per example, and the terms that it is the sum of, each averaged over the batch.
"""

import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import scale_of
from vaejax.inference.terms import Inference, infer
from vaejax.models import LatentModel
from vaejax.types import Array, Batch, Key, Metrics


def elbo(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 1.0,
    free_bits: float | Array = 0.0,
    samples: int = 1,
) -> tuple[Array, Metrics]:
    """Negative ELBO with weight `beta` on the KL term, nats per example.

    loss = E_q[-log p(x | z)] + beta * KL(q(z | x) || p(z))
    [Kingma & Welling 2014, eq. 3; beta: Higgins et al. 2017, eq. 4].

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      beta: weight of the KL term; 1 is the ELBO, 0 an autoencoder.
      free_bits: nats below which the batch mean of a latent's KL is not pushed
        [Kingma et al. 2016, eq. 15], of the whole block's where its density is joint;
        0 is off.
      samples: draws of z for each example, averaged.

    Returns:
      The loss, a scalar, and its terms, scalars averaged over the batch: `loss` =
      `rate` + `distortion`, `elbo`, `kl`, all in nats; of a Gaussian likelihood also
      `sigma`, `implied_sigma` and `effective_beta`.

    Examples:
      A model is bound by `flax.linen.apply` (and initialized by `flax.linen.init`):

      >>> import flax.linen as nn
      >>> import jax
      >>> import vaejax
      >>> experiment = vaejax.presets.vae(dataset="digits", hidden=(16,), latents=2)
      >>> batch = {"x": jax.numpy.zeros((5, 8, 8, 1))}
      >>> key = jax.random.key(0)
      >>> variables = nn.init(vaejax.elbo, experiment.model)(key, batch, key)
      >>> loss, terms = nn.apply(vaejax.elbo, experiment.model)(variables, batch, key)
      >>> loss.shape, sorted(terms)
      ((), ['distortion', 'elbo', 'kl', 'loss', 'rate'])
      >>> bool(abs(loss - terms["rate"] - terms["distortion"]) < 1e-3)
      True
    """
    i = infer(model, batch, key, samples)
    rate = beta * floored_kl(i.kl_parts, free_bits)
    loss = rate - jnp.mean(i.log_px)
    return loss, terms(i, rate) | gaussian_terms(i, beta)


def capacity(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    gamma: float | Array = 1000.0,
    target: float | Array = 25.0,
) -> tuple[Array, Metrics]:
    """Holds the KL at a target that grows over training, nats per example.

    loss = E_q[-log p(x | z)] + gamma * |KL(q(z | x) || p(z)) - target|
    [Burgess et al. 2018, eq. 8], with KL the mean over the batch.

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      gamma: weight of the distance between KL and target.
      target: the KL that is held, nats.

    Returns:
      The loss, a scalar, and its terms as those of `elbo`, nats.
    """
    i = infer(model, batch, key)
    rate = gamma * jnp.abs(jnp.mean(i.kl) - target)
    return rate - jnp.mean(i.log_px), terms(i, rate)


def floored_kl(
    kl_parts: Float[Array, "samples batch latents"], nats: float | Array
) -> Array:
    """Sum over latents of max(nats, mean KL over the batch); nats = 0 is the plain KL.

    A Monte Carlo KL may be negative by chance, so 0 must not clip it.
    """
    mean = kl_parts.mean((0, 1))
    return jnp.where(nats > 0, jnp.maximum(mean, nats), mean).sum()


def terms(i: Inference, rate: Array) -> Metrics:
    """The terms that every ELBO-like objective logs: loss = rate + distortion."""
    distortion = -jnp.mean(i.log_px)
    kl = jnp.mean(i.kl)
    return {
        "loss": rate + distortion,
        "elbo": -distortion - kl,
        "distortion": distortion,
        "rate": rate,
        "kl": kl,
    } | block_terms(i)


def block_terms(i: Inference) -> Metrics:
    """The KL term of each block of several, by its name: `kl_z1`, `kl_z2`, ...; nats.

    Their sum is `kl`.
    """
    if len(i.latents) == 1:
        return {}
    return {f"kl_{n}": jnp.mean(t.kl.sum(-1)) for n, t in i.latents.items()}


def gaussian_terms(i: Inference, beta: float | Array) -> Metrics:
    """The sigma and beta that the KL's weight implies for a Gaussian; else empty.

    Scaling the KL of a Gaussian ELBO with `beta` is, up to constants, the ELBO (beta =
    1) of `implied_sigma` = sigma sqrt(beta), and the same as half the squared error
    plus `effective_beta` = beta sigma^2 times the KL.
    """
    found = sigma_term(i)
    if not found:
        return {}
    return found | {
        "implied_sigma": found["sigma"] * jnp.sqrt(beta),
        "effective_beta": beta * jnp.square(found["sigma"]),
    }


def sigma_term(i: Inference) -> Metrics:
    """`sigma` of a Gaussian likelihood, model's units; empty for others."""
    sigma = scale_of(i.px)
    return {} if sigma is None else {"sigma": sigma}


def reconstruction(model: LatentModel, batch: Batch, key: Key) -> tuple[Array, Metrics]:
    """The distortion alone, nats per example: the negative ELBO with beta = 0.

    loss = E_q[-log p(x | z)], the last term of [Kingma & Welling 2014, eq. 3].

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.

    Returns:
      The loss, a scalar, and the same as the term `distortion`, nats.
    """
    i = infer(model, batch, key)
    loss = -jnp.mean(i.log_px)
    return loss, {"loss": loss, "distortion": loss}
