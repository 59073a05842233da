"""Continuous latents beside categorical ones [Dupont 2018]."""

import flax.linen as nn

from vaejax.distributions.joined import Joined
from vaejax.inference.latents import Block, Keys, Source, joined, latent_term
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.models.holes import read_input
from vaejax.models.posteriors import CategoricalHead
from vaejax.models.vae import gaussian
from vaejax.types import Array, Batch, Distribution


class MixedEncoder(nn.Module):
    """q(z | x) q(c | x): a diagonal Gaussian, and categories, off the same features."""

    body: nn.Module
    latents: int
    categories: CategoricalHead
    reader: nn.Module | None = None

    @nn.compact
    def __call__(self, batch: Batch) -> tuple[Distribution, Distribution]:
        h = self.body(read_input(self.reader, batch))
        return gaussian(h, self.latents), self.categories(h)


class JointVAE(LatentModel):
    """p(z) p(c) p(x | z, c) of continuous z and categories c, independent given x.

    `decode` and `encode` are of both as one vector, z first and c one-hot.
    """

    encoder: nn.Module
    decoder: nn.Module
    prior: nn.Module
    categories: nn.Module

    def terms(self, batch: Batch, source: Source) -> Inference:
        blocks = zip("zc", self.encoder(batch), self._priors(batch), strict=True)
        latents = {}
        for number, (name, q, p) in enumerate(blocks):
            value, log_q = source(Block(name, q, p, number))
            latents[name] = latent_term(q, p, value, log_q)
        px = self.decode(joined([term.z for term in latents.values()]), batch)
        return Inference(log_observed(px, batch), latents, px)

    def encode(self, batch: Batch) -> Distribution:
        return Joined(self.encoder(batch))

    def decode(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Array:
        return joined(list(self.draw_blocks(batch, keys, temperature).values()))

    def _priors(self, batch: Batch) -> tuple[Distribution, Distribution]:
        return self.prior(batch), self.categories(batch)
