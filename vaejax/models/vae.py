"""The variational autoencoder and its parts [Kingma & Welling 2014]."""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Delta, Normal
from vaejax.types import Array, Batch, Distribution


class GaussianEncoder(nn.Module):
    """q(z | x) = N(mu(x), diag sigma(x)^2), from the features of a body."""

    body: nn.Module
    latents: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        statistics = nn.Dense(2 * self.latents)(self.body(batch["x"]))
        mean, log_variance = jnp.split(statistics, 2, axis=-1)
        return Normal(mean, jnp.exp(0.5 * log_variance))


class DeterministicEncoder(nn.Module):
    """q(z | x) a point mass: the encoder of a plain autoencoder."""

    body: nn.Module
    latents: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        return Delta(nn.Dense(self.latents)(self.body(batch["x"])))


class StandardNormal(nn.Module):
    """p(z) = N(0, I)."""

    latents: int

    def __call__(self, batch: Batch) -> Distribution:
        shape = (len(batch["x"]), self.latents)
        return Normal(jnp.zeros(shape), jnp.ones(shape))


class Decoder(nn.Module):
    """p(x | z): a body's output read as the parameters of a likelihood."""

    body: nn.Module
    likelihood: nn.Module

    def __call__(self, z: Array, batch: Batch) -> Distribution:
        return self.likelihood(self.body(z), batch)


class VAE(nn.Module):
    """p(x, z) = p(z) p(x | z) with the amortized posterior q(z | x).

    Its parts are `encoder`, `decoder` and `prior`; any of them may be a module that
    reads more of the batch than `x`.
    """

    encoder: nn.Module
    decoder: nn.Module
    prior: nn.Module

    def posterior(self, batch: Batch) -> Distribution:
        return self.encoder(batch)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)
