"""ELBOs of models with several blocks of latents."""

import jax.numpy as jnp

from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.objectives.elbo import gaussian_terms, terms
from vaejax.types import Array, Batch, Key, Metrics


def block_elbo(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 1.0,
    free_bits: float | Array = 0.0,
) -> tuple[Array, Metrics]:
    """Negative ELBO with free bits for each block of an example, nats per example.

    loss = E_q[-log p(x | z)] + beta * sum_i E_x[max(free_bits, KL_i(x))], where KL_i(x)
    is log q(z_i) - log p(z_i) at one draw. The free bits of `elbo` are those of a
    latent, and of the mean over the batch [Kingma et al. 2016, eq. 15]; these are as in
    the ladder VAE of `addtt/ladder-vae-pytorch`.

    Args:
      model: a bound `vaejax.models.LatentModel`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      beta: weight of the KL term; 1 is the ELBO.
      free_bits: nats below which the KL of a block of an example is not pushed; 0 is
        off.

    Returns:
      The loss, a scalar, and the terms of `elbo`; `rate` is of the draws, `kl` analytic
      where it is known.
    """
    i = infer(model, batch, key)
    kls = jnp.stack([term.log_q - term.log_p for term in i.latents.values()])
    # A draw's term may be negative by chance, so 0 must not clip it.
    floored = jnp.where(free_bits > 0, jnp.maximum(kls, free_bits), kls)
    rate = beta * jnp.mean(floored.sum(0))
    return rate - jnp.mean(i.log_px), terms(i, rate) | gaussian_terms(i, beta)


def block_capacity(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    gamma: float | Array = 30.0,
    target_z: float | Array = 5.0,
    target_c: float | Array = 5.0,
) -> tuple[Array, Metrics]:
    """Holds the KL of continuous and of categorical latents at a target each, nats.

    loss = E_q[-log p(x | z, c)] + gamma |KL_z - target_z| + gamma |KL_c - target_c|
    [Dupont 2018, eq. 7], with each KL the mean over the batch.

    Args:
      model: a bound model with the blocks `z` and `c`, as `vaejax.models.JointVAE`.
      batch: `x` `[batch, *shape]`, and what the model conditions on.
      key: a `jax.random.key`.
      gamma: weight of the distances between KLs and targets.
      target_z: the KL of continuous latents that is held, nats.
      target_c: that of the categorical ones, of which log K each is the most.

    Returns:
      The loss, a scalar, and its terms as those of `elbo`, beside `kl_z` and `kl_c`;
      nats.
    """
    i = infer(model, batch, key)
    targets = {"z": target_z, "c": target_c}
    away = [
        jnp.abs(jnp.mean(i.latents[name].kl.sum(-1)) - target)
        for name, target in targets.items()
    ]
    rate = gamma * jnp.stack(away).sum()
    return rate - jnp.mean(i.log_px), terms(i, rate)
