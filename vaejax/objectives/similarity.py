"""A VAE whose reconstructions are to look alike: structural similarity as the loss."""

import jax.numpy as jnp

from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.nn.similarity import (
    multiscale_similarity,
    ssim_scales,
    structural_similarity,
)
from vaejax.types import Array, Batch, Key, Metrics


def expected_dissimilarity(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    weight: float | Array = 500.0,
    beta: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """The expected loss of images by MS-SSIM, and the KL term, nats per example.

    loss = weight E_q[1 - MS-SSIM(x, E[x | z])] + beta KL(q(z | x) || p(z))
    [Snell et al. 2017, sec. 3]: no bound of a likelihood. Images that are narrower than
    11 pixels have SSIM on one scale.

    Args:
      model: a bound `vaejax.models.LatentModel` of images.
      batch: `x` `[batch, height, width, channels]` in [0, 1].
      key: a `jax.random.key`.
      weight: nats that a similarity of 0 costs.
      beta: weight of the KL term.

    Returns:
      The loss, a scalar, and its terms: `loss` = `dissimilarity` + `rate`, `kl`, in
      nats; `similarity`.

    Raises:
      InputError: the images are narrower than three pixels.
    """
    i = infer(model, batch, key)
    scales = ssim_scales(batch["x"].shape[1:])
    alike = multiscale_similarity if scales else structural_similarity
    similarity = jnp.mean(alike(batch["x"], i.px.mean[0]))
    kl = jnp.mean(i.kl)
    dissimilarity, rate = weight * (1 - similarity), beta * kl
    parts = {"dissimilarity": dissimilarity, "rate": rate}
    loss = dissimilarity + rate
    return loss, {"loss": loss, **parts, "kl": kl, "similarity": similarity}
