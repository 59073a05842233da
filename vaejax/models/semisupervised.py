"""A VAE whose labels are latent where nobody gives them [Kingma et al. 2014]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.models.vae import EncoderDecoder
from vaejax.types import Array, Batch, Distribution


class SemiSupervisedVAE(EncoderDecoder):
    """p(y) p(z) p(x | z, y) with q(y | x) and q(z | x, y): M2, with uniform p(y).

    [Kingma et al. 2014, eq. 2 and 4]. Its verbs are those of a model that is
    conditioned on labels, and its likelihood is of x given the label; where a label is
    -1, the most probable by q(y | x) stands for it. Objectives that treat labels as
    latent take `log_labels`, too.
    """

    prior: nn.Module
    classifier: nn.Module

    def log_labels(self, batch: Batch) -> Array:
        """log q(y | x), nats `[batch, classes]`."""
        return nn.log_softmax(self.classifier(batch["x"], batch).score)

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(self.with_labels(batch))

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, self.with_labels(batch))

    def with_labels(self, batch: Batch) -> dict[str, Any]:
        """The batch with the most probable label where it has -1."""
        y = batch["y"]
        if y.ndim == 2:  # weights of classes
            return dict(batch)
        guess = self.log_labels(batch).argmax(-1).astype(y.dtype)
        return {**batch, "y": jnp.where(y >= 0, y, guess)}
