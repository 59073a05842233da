"""Diagonal Gaussians over latents as papers parameterize them, from features.

`vaejax.models.vae.gaussian` reads mean and log variance off one dense layer. Papers
have a layer for each, and other functions to the scale.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.nn.starts import LECUN, Start
from vaejax.types import Array, Distribution

Scale = Callable[[Array], Array]
"""From the output of a dense layer to standard deviations."""


def exp_scale(out: Array) -> Array:
    """sigma = exp(out) [Burda et al. 2016, sec. 5: exp of a linear layer]."""
    return jnp.exp(out)


def clipped_scale(out: Array) -> Array:
    """sigma^2 = exp(out), out clipped to [-6, 2] [Tomczak & Welling 2018, code]."""
    return jnp.exp(0.5 * jnp.clip(out, -6.0, 2.0))


def softplus_scale(out: Array) -> Array:
    """sigma^2 = log(1 + exp(out)) [van den Berg et al. 2018, code]."""
    return jnp.sqrt(nn.softplus(out))


def smooth_scale(out: Array) -> Array:
    """sigma = log2(1 + 2^out), 1 at 0 [Hazami et al. 2022, beta = ln 2]."""
    beta = jnp.log(2.0)
    return nn.softplus(beta * out) / beta


class GaussianHead(nn.Module):
    """A diagonal Gaussian, its mean and its scale by a dense layer each."""

    latents: int
    scale: Scale
    start: Start = LECUN

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        inputs = h.shape[-1]
        mean = self.start.dense(self.latents, inputs)(h)
        return Normal(mean, self.scale(self.start.dense(self.latents, inputs)(h)))
