"""From the three verbs of a model to its log-weights: all that objectives consume."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Float

from vaejax.distributions import kl_divergence
from vaejax.purposes import OfObjective
from vaejax.types import (
    Array,
    Batch,
    Distribution,
    Key,
    LatentModel,
    MissingnessModel,
)


class Inference(NamedTuple):
    """Terms of log p(x, z) - log q(z | x) at draws z ~ q(z | x), in nats.

    `log_px` is of all that is observed: of the entries of x that are and, where the
    model says why the others are missing, of the mask (`log_missing`). `kl_parts` is
    KL(q || p) of each latent: analytic where known (then equal for all samples), else
    the Monte Carlo term of each draw.
    """

    log_px: Float[Array, "samples batch"]
    log_pz: Float[Array, "samples batch"]
    log_qz: Float[Array, "samples batch"]
    kl_parts: Float[Array, "samples batch latents"]
    z: Float[Array, "samples batch latents"]
    px: Distribution

    @property
    def kl(self) -> Float[Array, "samples batch"]:
        """KL(q || p), nats."""
        return self.kl_parts.sum(-1)

    @property
    def log_w(self) -> Float[Array, "samples batch"]:
        """log p(x, z) / q(z | x), the importance weight of each draw, nats."""
        return self.log_px + self.log_pz - self.log_qz

    def tempered(self, beta: float | Array) -> Float[Array, "samples batch"]:
        """`log_w` with weight `beta` on log p(z) / q(z | x), nats."""
        return self.log_px + beta * self.log_pz - beta * self.log_qz


def observed_log_prob(
    px: Distribution, x: Array, mask: Array | None = None
) -> Float[Array, "samples batch"]:
    """log p(x_observed | z), nats: the sum over entries whose mask is 1.

    `x` and `mask` are `[samples or 1, batch, ...]`. An entry of a joint density (the
    channels of a pixel of a mixture) counts where all its parts are observed. Whatever
    x holds elsewhere has no influence, on gradients neither.
    """
    # Not after log_prob alone: the gradient there of a NaN or infinity would be NaN.
    log_prob = px.log_prob(x if mask is None else jnp.where(mask == 1, x, 0.0))
    if mask is not None:
        joint = tuple(range(mask.ndim - px.event_dim, mask.ndim))
        log_prob = jnp.where(jnp.all(mask == 1, axis=joint), log_prob, 0.0)
    return total(log_prob.reshape(*log_prob.shape[:2], -1))


def total(values: Float[Array, "samples batch dims"]) -> Float[Array, "samples batch"]:
    """The sum over the last axis.

    XLA's CPU backend sums in one thread, and in no vector; its products are fast.
    Elsewhere a sum fuses with what is summed, which then is never stored.
    """
    return jax.lax.platform_dependent(
        values,
        cpu=lambda v: v @ jnp.ones(v.shape[-1], v.dtype),
        default=lambda v: v.sum(-1),
    )


def log_mean_exp(log_w: Array) -> Array:
    """log of the mean over the leading (sample) axis."""
    return logsumexp(log_w, axis=0) - jnp.log(log_w.shape[0])


def complete(batch: Batch, drawn: Array) -> Array:
    """x where it is observed, else what is `drawn`: `[samples, batch, ...]`."""
    x = jnp.broadcast_to(batch["x"][None], drawn.shape)
    return jnp.where(batch["mask"][None] == 1, x, drawn) if "mask" in batch else x


def log_missing(
    model: MissingnessModel, x: Array, batch: Batch
) -> Float[Array, "samples batch"]:
    """log p(m | x), nats, for complete `x` `[samples, batch, ...]`."""
    mask = batch["mask"] if "mask" in batch else jnp.ones_like(batch["x"])
    log_prob = model.missingness(x).log_prob(mask[None])
    return total(log_prob.reshape(*log_prob.shape[:2], -1))


def scored(batch: Batch, event_dim: int = 0) -> Array:
    """1 where an entry of x counts in log p(x | z), else 0: `[batch, *shape]`.

    Those are the observed entries that are not conditioned on (`seen`). The parts of a
    joint density, over the last `event_dim` axes, count together: where all of them are
    observed, and not all are seen.

    Args:
      batch: `x`, and what it has of `mask` and `seen`.
      event_dim: axes of x that one density is joint over.
    """
    x: Array = batch["x"]
    joint = tuple(range(x.ndim - event_dim, x.ndim))
    counts = jnp.ones(x.shape, bool)
    if "mask" in batch:
        counts &= jnp.all(batch["mask"] == 1, joint, keepdims=True)
    if "seen" in batch:
        counts &= ~jnp.all(batch["seen"] == 1, joint, keepdims=True)
    return counts.astype(jnp.float32)


def infer(model: LatentModel, batch: Batch, key: Key, samples: int = 1) -> Inference:
    """Draws `samples` latents of each example from q(z | x) and weighs them.

    A model of missingness also draws the missing entries, one completion for each z:
    w = p(x_observed | z) p(m | x) p(z) / q(z | x) [Ipsen et al. 2021, eq. 6].

    Args:
      model: a bound model, as objectives get it.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      samples: draws of z for each example.

    Returns:
      The terms of the log-weights, `[samples, batch]`, nats.
    """
    q, p = model.posterior(batch), model.prior(batch)
    z = jax.vmap(q.rsample)(jax.random.split(key, samples))
    return weigh_draws(
        model, q, p, z, batch, jax.random.fold_in(key, OfObjective.HOLES)
    )


def weigh_draws(
    model: LatentModel,
    q: Distribution,
    p: Distribution,
    z: Array,
    batch: Batch,
    key: Key,
) -> Inference:
    """The terms of draws `z` `[samples, batch, latents]` of q, decoded by the model.

    Bounds, likelihoods and imputations all weigh draws here, so that they are of the
    same event: what is observed and, of a model of missingness, that it is. `key` is
    for the missing entries that the latter draws: `px.rsample(key)` where x is missing.
    """
    found = weigh(q, p, model.likelihood(z, batch), z, batch)
    if not isinstance(model, MissingnessModel):
        return found
    x = complete(batch, found.px.rsample(key))
    return found._replace(log_px=found.log_px + log_missing(model, x, batch))


def weigh(
    q: Distribution, p: Distribution, px: Distribution, z: Array, batch: Batch
) -> Inference:
    """The terms of given draws `z` `[samples, batch, latents]` of q."""
    x, mask = batch["x"][None], batch.get("mask")
    return Inference(
        log_px=observed_log_prob(px, x, None if mask is None else mask[None]),
        log_pz=jax.vmap(p.log_prob)(z).sum(-1),
        log_qz=jax.vmap(q.log_prob)(z).sum(-1),
        kl_parts=kl_divergence(q, p, z),
        z=z,
        px=px,
    )
