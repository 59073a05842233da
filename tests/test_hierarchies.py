"""Hierarchies inferred from the top: truth, sources of latents, and their uses."""

import dataclasses
import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import vaejax
from vaejax import InputError, objectives, parallel
from vaejax import distributions as d
from vaejax.distributions.kl import kl_of_gaussians
from vaejax.distributions.temperature import at_temperature
from vaejax.experiment import variables_of
from vaejax.inference.latents import FromPosterior, Given
from vaejax.inference.sources import ALL_BLOCKS, TopBlocks, TopMeans
from vaejax.metrics import block_metrics
from vaejax.models import HVAE, VAE, LadderVAE, StandardNormal, TwoLayerVAE
from vaejax.models.ladder import Down, precision_weighted
from vaejax.models.topdown import joined, parted
from vaejax.nn.ladder import FittedConv, cropped, padded
from vaejax.presets import PRESETS
from vaejax.presets.conv_ladder import planned
from vaejax.presets.signature import tiny_settings
from vaejax.training.loop import first_state

KEY = jax.random.key(5)
EPS = np.finfo(np.float32).eps
ROWS = 4
rng = np.random.default_rng(1)


class Fixed(nn.Module):
    """A part that is a function of its arguments."""

    function: object

    def __call__(self, *arguments):
        return self.function(*arguments)


def normal(loc, scale):
    loc = jnp.asarray(loc, jnp.float32)
    return d.Normal(loc, jnp.broadcast_to(jnp.asarray(scale, jnp.float32), loc.shape))


def keys(samples):
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(samples))


# A chain of three: z3 ~ N(0, I), z2 = C z3 + noise, z1 = A z2 + noise, x = W z1 + noise.
# All matrices are diagonal, so that each posterior given the block above is diagonal.

SIZE = 3
C, A, W = (rng.uniform(0.5, 1.5, SIZE) for _ in range(3))
S2, S1, SIGMA = 0.7, 0.5, 0.6
X = rng.normal(size=(ROWS, SIZE)).astype(np.float32)
BATCH = {"x": jnp.asarray(X)}


def evidence():
    """log p(x), from the marginal variances."""
    v2 = C**2 + S2**2
    v1 = A**2 * v2 + S1**2
    return scipy.stats.norm(0, np.sqrt(W**2 * v1 + SIGMA**2)).logpdf(X).sum(-1)


def upward():
    """Slopes and variances of x as a measurement of z1, z2 and z3."""
    noise1 = SIGMA**2
    noise2 = noise1 + W**2 * S1**2
    noise3 = noise2 + (W * A) ** 2 * S2**2
    return ((W, noise1), (W * A, noise2), (W * A * C, noise3))


def likelihood_of(block):
    """The Gaussian in z_block that p(x | z_block) is proportional to: q^ of a ladder."""
    slope, noise = upward()[block]
    return lambda batch: normal(batch["x"] / slope[None], np.sqrt(noise / slope**2))


def exact_ladder():
    """q^_L is the posterior of the top block, each lower q^_i the likelihood of z_i."""

    def encoder(batch):
        top = precision_weighted(
            likelihood_of(2)(batch), normal(jnp.zeros((1, 1)), 1.0)
        )
        return (likelihood_of(0)(batch), likelihood_of(1)(batch), top)

    rungs = (
        Fixed(lambda z: normal(z * A.astype(np.float32), S1)),
        Fixed(lambda z: normal(z * C.astype(np.float32), S2)),
    )
    decoder = Fixed(lambda z, batch: normal(z * W.astype(np.float32), SIGMA))
    return LadderVAE(Fixed(encoder), Down(rungs), decoder, StandardNormal(SIZE))
