"""From what a model infers to its log-weights: all that objectives consume."""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Float

from vaejax.inference.latents import LatentTerm, draw_keys
from vaejax.types import Array, Batch, Distribution, Key


class Inference(NamedTuple):
    """Terms of log p(x, z) - log q(z | x) at draws z ~ q(z | x), in nats.

    `log_px` is of all that is observed: of the entries of x that are and, where the
    model says why the others are missing, of the mask. `latents` are the blocks of z,
    from the data upwards: `decode` takes the first. The sums over blocks, and what
    there is of one block, are properties.
    """

    log_px: Float[Array, "samples batch"]
    latents: Mapping[str, LatentTerm]
    px: Distribution
    x: Array | None = None
    """Completions `[samples, batch, ...]` that the weights are of, where the model of
    why entries are missing had to draw these."""

    @property
    def z(self) -> Float[Array, "samples batch *latents"]:
        """Draws of the first block."""
        return next(iter(self.latents.values())).z

    @property
    def log_pz(self) -> Float[Array, "samples batch"]:
        """log p(z) of all blocks, nats."""
        return self._sum(term.log_p for term in self.latents.values())

    @property
    def log_qz(self) -> Float[Array, "samples batch"]:
        """log q(z | x) of all blocks, nats."""
        return self._sum(term.log_q for term in self.latents.values())

    @property
    def kl_parts(self) -> Float[Array, "samples batch parts"]:
        """KL(q || p) of each part of each block, nats; no parts without latents."""
        if not self.latents:
            return jnp.zeros((*self.log_px.shape, 0))
        return jnp.concatenate([term.kl for term in self.latents.values()], -1)

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

    def _sum(self, terms: Iterable[Array]) -> Array:
        """The sum over blocks; zeros where there is none."""
        return functools.reduce(operator.add, terms, jnp.zeros_like(self.log_px))


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


def log_observed(px: Distribution, batch: Batch) -> Float[Array, "samples batch"]:
    """log p(x_observed | z) of a batch, nats."""
    mask = batch.get("mask")
    return observed_log_prob(px, batch["x"][None], None if mask is None else mask[None])


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


def infer(model: Any, batch: Batch, key: Key, samples: int = 1) -> Inference:
    """Draws `samples` latents of each example from q(z | x) and weighs them.

    Args:
      model: a bound `vaejax.models.LatentModel`, as objectives get it.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      samples: draws of z for each example.

    Returns:
      The terms of the log-weights, `[samples, batch]`, nats.
    """
    return model.infer(batch, draw_keys(key, jnp.arange(samples)))
