"""The loss of quantized autoencoders."""

import math
from typing import cast

import jax
import jax.numpy as jnp
from jax.nn import log_softmax

from vaejax.distributions.codes import Quantized, UniformCodes
from vaejax.inference.latents import LatentTerm
from vaejax.inference.terms import Inference, infer
from vaejax.models import LatentModel
from vaejax.nn import codebooks as cb
from vaejax.nn.layers import mean_over_devices, sum_over_devices
from vaejax.objectives.elbo import sigma_term
from vaejax.types import Array, Batch, Key, Metrics

Weight = float | Array | None
stopped = jax.lax.stop_gradient


def quantization(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    commitment: Weight = 0.25,
    codebook: Weight = 1.0,
    entropy: Weight = None,
) -> tuple[Array, Metrics]:
    """Distortion and the losses of a codebook, nats per example.

    loss = -log p(x | z) + codebook |sg[h] - e|^2 + commitment |h - sg[e]|^2
    [van den Oord et al. 2017, eq. 3], with h what the encoder gives, e the nearest
    codes, z = e with the gradient of h, sg a stopped gradient. The squares are summed
    over channels, positions and levels (of residuals, each level's own). The KL, log
    size nats for each code, is constant: it is in `elbo`, and not in the loss.

    With an entropy weight, that times (E_h[H(c | h)] - H(E_h[c])) is added for each
    position [Yu et al. 2023, sec. 3.1], with the soft choice of a code c given h: each
    choice shall be clear, all choices shall be used.

    Args:
      model: a bound model whose posterior is a `Quantized`.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes.
      key: a `jax.random.key`.
      commitment: weight of what keeps the encoder near its codes; None: no such term.
      codebook: weight of what draws codes to the encoder; None: no such term, where
        the codebook is a moving average or fixed.
      entropy: weight of the entropies, of a quantizer with soft choices; None: none.

    Returns:
      The loss, a scalar, and its terms: `loss` = `distortion` + `commitment` +
      `codebook` + `entropy`, of these what there is; `elbo` and `kl`, all in nats.
      Beside them `usage`, the share of codes that the batch uses, `perplexity`,
      `bits_per_pixel` of the codes, and `revived`, dead codes that were replaced.
    """
    i = infer(model, batch, key)
    losses = code_losses(i, commitment, codebook, entropy)
    distortion, kl = -jnp.mean(i.log_px), jnp.mean(i.kl)
    loss = distortion + sum(losses.values())
    terms = {"loss": loss, "elbo": -distortion - kl, "distortion": distortion, "kl": kl}
    return loss, terms | losses | code_terms(i, batch) | sigma_term(i)


def code_losses(
    i: Inference, commitment: Weight, codebook: Weight, entropy: Weight
) -> Metrics:
    """The weighted losses of codes, those that have a weight; nats per example.

    Of several maps of codes they are summed.
    """
    weights = {"commitment": commitment, "codebook": codebook, "entropy": entropy}
    parts = {"commitment": commitment_of, "codebook": codebook_of, "entropy": certainty}
    found = [cast(Quantized, term.q) for term in i.latents.values()]
    return {
        name: sum((w * parts[name](q) for q in found), jnp.zeros(()))
        for name, w in weights.items()
        if w is not None
    }


def commitment_of(q: Quantized) -> Array:
    """|h - sg[e]|^2, the mean over examples."""
    return mean_of_sums(jnp.square(q.residuals - stopped(q.entries)))


def codebook_of(q: Quantized) -> Array:
    """|sg[h] - e|^2, the mean over examples."""
    return mean_of_sums(jnp.square(stopped(q.residuals) - q.entries))


def mean_of_sums(values: Array) -> Array:
    """The mean over examples of the sum of all that belongs to one."""
    return values.reshape(len(values), -1).sum(-1).mean()


def certainty(q: Quantized) -> Array:
    """E_h[H(c | h)] - H(E_h[c]) times positions, nats; of factors the sum.

    h is over positions and examples. Where a code has several factors, H(E_h[c]) is
    that of independent ones: the sum of theirs is an upper bound.
    """
    if q.logits is None:
        raise TypeError("entropies are of a quantizer that has a softness")
    log_p = log_softmax(q.logits)
    positions = math.prod(q.logits.shape[1:3])
    each = -(jnp.exp(log_p) * log_p).sum(-1).mean((0, 1, 2))
    mean = mean_over_devices(jnp.exp(log_p).mean((0, 1, 2)))
    whole = -jnp.where(mean > 0, mean * jnp.log(jnp.maximum(mean, cb.LEAST)), 0).sum(-1)
    return positions * (each - whole).sum()


def code_terms(i: Inference, batch: Batch) -> Metrics:
    """How the codes of a batch are used, and what they cost.

    Of several maps of codes each has its own terms, with its name.
    """
    ends = {n: f"_{n}" if len(i.latents) > 1 else "" for n in i.latents}
    uses = [use_of_codes(term, ends[name]) for name, term in i.latents.items()]
    return {n: v for use in uses for n, v in use.items()} | rate_of_pixels(i, batch)


def use_of_codes(term: LatentTerm, end: str) -> Metrics:
    """`usage`, `perplexity` and `revived` of a map of codes, `end` after each name."""
    q, p = cast(Quantized, term.q), cast(UniformCodes, term.p)
    counts = sum_over_devices(cb.count_codes(q.codes, p.size))
    return {
        f"usage{end}": cb.share_used(counts),
        f"perplexity{end}": jnp.exp(cb.code_entropy(counts)),
        f"revived{end}": q.revived,
    }


def rate_of_pixels(i: Inference, batch: Batch) -> Metrics:
    """The KL in bits for each pixel: `bits_per_pixel`."""
    pixels = math.prod(batch["x"].shape[1:-1])
    return {"bits_per_pixel": jnp.mean(i.kl) / math.log(2) / pixels}
