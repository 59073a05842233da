"""Models with critics. Parts only: who moves them, and why, is said by players."""

import flax.linen as nn

from vaejax.models.base import Generator
from vaejax.models.vae import EncoderDecoder
from vaejax.types import Array, Batch, Distribution


class GAN(Generator):
    """A generator of x from z, and a critic [Goodfellow et al. 2014].

    Its likelihood is a point mass at the generated x: it can be sampled, not weighed.
    """

    generator: nn.Module
    critic: nn.Module
    prior: nn.Module

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return self.generator(z, batch)


class CriticVAE(EncoderDecoder):
    """A VAE with a critic: of x (VAE-GAN), of z (AAE), or of pairs (ALI, BiGAN)."""

    critic: nn.Module
    prior: nn.Module


class CVAEGAN(EncoderDecoder):
    """Encoder, generator, critic and classifier [Bao et al. 2017]."""

    critic: nn.Module
    classifier: nn.Module
    prior: nn.Module


class Judge(nn.Module):
    """A classifier alone, whose features measure samples."""

    classifier: nn.Module

    def log_labels(self, batch: Batch) -> Array:
        """log p(y | x), nats `[batch, classes]`."""
        return nn.log_softmax(self.classifier(batch["x"], batch).score)
