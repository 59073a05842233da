"""Completing an image of which a part is seen [Sohn, Lee & Yan 2015]."""

import flax.linen as nn
import jax

from vaejax.distributions import Known
from vaejax.models.conditions import HIDDEN, completed
from vaejax.models.vae import gaussian
from vaejax.types import Array, Batch, Distribution


class Baseline(nn.Module):
    """A deterministic guess at x from the context: p(x | context), factorized."""

    body: nn.Module
    decoder: nn.Module
    likelihood: nn.Module

    def __call__(self, batch: Batch) -> Distribution:
        h = self.body(completed(batch, HIDDEN))
        px = self.likelihood(self.decoder(h[None]), batch)
        return Known(px, batch["context"], batch["seen"])


class GaussianNetwork(nn.Module):
    """A diagonal Gaussian over latents, from the features of an image."""

    body: nn.Module
    latents: int

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        return gaussian(self.body(x), self.latents)


class Completion(nn.Module):
    """p(x | context) = E_{p(z | context)} p(x | z): the conditional VAE of images.

    The prior network sees the context with the baseline's guess pasted in, the
    recognition network q(z | x) the whole image. What is seen is certain: it has
    probability 1 and stays as it is in every completion. No gradient reaches the
    baseline from here; it has a player of its own.
    """

    encoder: nn.Module
    decoder: nn.Module
    prior_network: nn.Module
    baseline: nn.Module

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(batch["x"])

    def prior(self, batch: Batch) -> Distribution:
        guess = jax.lax.stop_gradient(self.baseline(batch).mean[0])
        return self.prior_network(completed(batch, guess))

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        px = self.decoder(z, batch)
        return Known(px, batch["context"], batch["seen"])
