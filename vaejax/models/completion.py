"""Completion of what is seen in part [Sohn et al. 2015; Ivanov et al. 2019]."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.distributions import Known
from vaejax.inference.latents import Keys
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.models.conditions import HIDDEN, completed
from vaejax.models.holes import observed
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


class Completer(LatentModel):
    """Models of p(x | context): what is seen is certain, and p(z | seen) sees no more.

    The encoder sees the whole of x, so imputations are draws of the prior, given what
    is observed as the context; all weigh the same.
    """

    conditions: ClassVar[tuple[str, ...]] = ("context", "seen")

    encoder: nn.Module
    decoder: nn.Module
    prior_network: nn.Module

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        px = self.decoder(z, batch)
        return Known(px, batch["context"], batch["seen"])

    def impute(self, batch: Batch, keys: Keys) -> Inference:
        batch = {**batch, "context": batch["x"], "seen": batch["mask"]}
        px = self.generate(batch, keys)
        return Inference(log_observed(px, batch), {}, px)


class Completion(Completer):
    """p(x | context) = E_{p(z | context)} p(x | z): the conditional VAE of images.

    The prior network sees the context with the baseline's guess pasted in, the
    recognition network q(z | x) the whole image. What is seen is certain: it has
    probability 1 and stays as it is in every completion. No gradient reaches the
    baseline from here; it has a player of its own.
    """

    baseline: nn.Module

    def guess(self, batch: Batch) -> Distribution:
        """The baseline's p(x | context): batch shape `[1, batch, ...]`."""
        return self.baseline(batch)

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(batch["x"])

    def prior(self, batch: Batch) -> Distribution:
        guess = jax.lax.stop_gradient(self.baseline(batch).mean[0])
        return self.prior_network(completed(batch, guess))


class Context(nn.Module):
    """The context and its mask side by side: columns of a table, channels of an image.

    As a condition `[batch, conditions]` of the decoder it is flat.
    """

    flat: bool = False

    def __call__(self, batch: Batch) -> Array:
        both = jnp.concatenate([batch["context"], batch["seen"]], -1)
        return both.reshape(both.shape[0], -1) if self.flat else both


class Whole(nn.Module):
    """The whole example, and which of it is seen and observed."""

    def __call__(self, batch: Batch) -> Array:
        return jnp.concatenate([batch["x"], observed(batch), batch["seen"]], -1)


class ArbitraryCompletion(Completer):
    """p(x | seen part) for any seen part: VAEAC [Ivanov et al. 2019, eq. 4-5].

    The prior network sees the seen part and where it is, the encoder q(z | x, seen)
    the whole example, the decoder z and the seen part. What is seen is certain.
    """

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(batch)

    def prior(self, batch: Batch) -> Distribution:
        return self.prior_network(batch)
