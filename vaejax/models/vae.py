"""The variational autoencoder and its parts [Kingma & Welling 2014]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Delta, Normal
from vaejax.models.base import LatentModel
from vaejax.models.conditions import condition_of
from vaejax.models.holes import read_input
from vaejax.nn.layers import append_condition
from vaejax.types import Array, Batch, Distribution


def gaussian(h: Array, latents: int) -> Distribution:
    """A diagonal Gaussian by a dense layer of the calling module, from features `h`.

    Of a map of features it is one over a map `[batch, height, width, latents]`.
    """
    mean, log_variance = jnp.split(nn.Dense(2 * latents)(h), 2, axis=-1)
    return Normal(mean, jnp.exp(0.5 * log_variance))


class GaussianNetwork(nn.Module):
    """A diagonal Gaussian over latents, from an image or from other latents.

    A `head` reads it off the features in place of `gaussian`.
    """

    body: nn.Module
    latents: int
    head: nn.Module | None = None

    @nn.compact
    def __call__(self, x: Array) -> Distribution:
        h = self.body(x)
        return self.head(h) if self.head else gaussian(h, self.latents)


class GaussianEncoder(nn.Module):
    """q(z | x) = N(mu(x), diag sigma(x)^2), from the features of a body.

    With a condition c it is q(z | x, c). `reader` turns a batch with holes into what
    the body sees; without one it sees x, which is 0 in its holes.
    """

    body: nn.Module
    latents: int
    condition: nn.Module | None = None
    reader: nn.Module | None = None

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        x = read_input(self.reader, batch)
        return gaussian(self.body(x, condition_of(self.condition, batch)), self.latents)


class Encoder(nn.Module):
    """q(z | x) of any family: a head turns the features of a body into it.

    With a condition c it is q(z | x, c); `reader` as of `GaussianEncoder`.
    """

    body: nn.Module
    head: nn.Module
    condition: nn.Module | None = None
    reader: nn.Module | None = None

    def __call__(self, batch: Batch) -> Distribution:
        x = read_input(self.reader, batch)
        return self.head(self.body(x, condition_of(self.condition, batch)))


class DeterministicEncoder(nn.Module):
    """q(z | x) a point mass: the encoder of a plain autoencoder."""

    body: nn.Module
    latents: int
    condition: nn.Module | None = None

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        h = self.body(batch["x"], condition_of(self.condition, batch))
        return Delta(nn.Dense(self.latents)(h))


class Decoder(nn.Module):
    """p(x | z): a body's output read as the parameters of a likelihood.

    With a condition c it is p(x | z, c).
    """

    body: nn.Module
    likelihood: nn.Module
    condition: nn.Module | None = None

    @property
    def last_kernel(self) -> tuple[str, ...]:
        """Place of the kernel of the last layer in the parameters, where the body
        names that of its own: slopes there weigh losses against each other.
        """
        body: Any = self.body
        return ("body", *body.last_kernel)

    def __call__(self, z: Array, batch: Batch) -> Distribution:
        z = append_condition(z, condition_of(self.condition, batch))
        return self.likelihood(self.body(z), batch)


class EncoderDecoder(LatentModel):
    """The verbs of models with the parts `encoder` and `decoder`; each is final."""

    encoder: nn.Module
    decoder: nn.Module

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(batch)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)


class VAE(EncoderDecoder):
    """p(x, z) = p(z) p(x | z) with the amortized posterior q(z | x).

    Its parts are `encoder`, `decoder` and `prior`; any of them may be a module that
    reads more of the batch than `x`.
    """

    prior: nn.Module
