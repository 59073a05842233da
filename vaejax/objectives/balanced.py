"""The ELBO with the KL terms of blocks of latents balanced against each other."""

import jax
import jax.numpy as jnp

from vaejax.inference.terms import Inference, infer
from vaejax.models import LatentModel
from vaejax.objectives.elbo import terms
from vaejax.types import Array, Batch, Key, Metrics


def balanced_elbo(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    beta: float | Array = 1.0,
    balance: float | Array = 0.0,
) -> tuple[Array, Metrics]:
    """Negative ELBO whose KL terms may be balanced over blocks, nats per example.

    loss = E_q[-log p(x | z)] + beta * sum_l gamma_l KL_l, where gamma_l is in
    proportion to KL_l / (latents of block l), with mean 1 over blocks
    [Vahdat & Kautz 2020, supplement]: it holds back blocks that are used, so that
    the others are not left behind early in training.

    Args:
      model: a bound `vaejax.models.LatentModel` with several blocks.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      beta: weight of the KL term.
      balance: above 0 balances; 0 is the ELBO.

    Returns:
      The loss, a scalar, and its terms as those of `elbo`, nats.
    """
    i = infer(model, batch, key)
    rate = beta * balanced_kl(i, balance)
    return rate - jnp.mean(i.log_px), terms(i, rate)


def balanced_kl(i: Inference, balance: float | Array) -> Array:
    """sum_l gamma_l KL_l, nats; no gradient passes through gamma."""
    parts = [term.kl for term in i.latents.values()]
    kl = jnp.stack([each.sum(-1).mean() for each in parts])
    share = kl / jnp.array([float(each.shape[-1]) for each in parts])
    gamma = jax.lax.stop_gradient(len(parts) * share / share.sum())
    return (jnp.where(balance > 0, gamma, 1.0) * kl).sum()
