"""Latents on the unit sphere [Davidson et al. 2018]."""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions.spheres import UniformSphere, VonMisesFisher
from vaejax.types import Array, Batch, Distribution


class VonMisesFisherHead(nn.Module):
    """q(z | x) on the sphere of R^latents: a direction, and a concentration above 1."""

    latents: int

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        loc = nn.Dense(self.latents)(h)
        # Away from 0, where a direction has no slope.
        length = jnp.sqrt(jnp.square(loc).sum(-1, keepdims=True) + 1e-12)
        concentration = nn.softplus(nn.Dense(1)(h)[..., 0]) + 1
        return VonMisesFisher(loc / length, concentration)


class SpherePrior(nn.Module):
    """p(z), uniform on the sphere of R^latents."""

    latents: int

    def __call__(self, batch: Batch) -> Distribution:
        return UniformSphere(batch["x"].shape[0], self.latents)
