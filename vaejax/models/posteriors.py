"""Posteriors beyond diagonal Gaussians: heads that read q(z | x) off features.

Modules are called here and never inside a distribution, which holds arrays only.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.nn.initializers import Initializer

from vaejax.distributions.autoregressive import (
    Dense,
    InverseAutoregressive,
    autoregressive_masks,
)
from vaejax.distributions.bijections import (
    Bijection,
    Householder,
    Planar,
    Reversed,
    Sylvester,
)
from vaejax.distributions.categories import Categories
from vaejax.distributions.flow import Flow
from vaejax.models.vae import gaussian
from vaejax.types import Array, Distribution

PosteriorName = Literal[
    "diagonal",
    "low_rank",
    "full",
    "planar",
    "householder",
    "sylvester",
    "iaf",
    "categorical",
]
"""The settings' names of the posteriors; `presets.posteriors` builds each."""
SMALL = nn.initializers.normal(0.01)
OPEN = 2.0
"""Logit of gates at the start, near 1: a fresh map is nearly the identity."""


class FullHead(nn.Module):
    """A Gaussian with any covariance, by its Cholesky factor [Rezende et al. 2014].

    `base` gives the mean and the factor's diagonal, by default as `gaussian` does.
    """

    latents: int
    base: nn.Module | None = None

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        size = self.latents
        q: Any = self.base(h) if self.base else gaussian(h, size)
        rows, columns = jnp.tril_indices(size, -1)
        below = nn.Dense(len(rows), kernel_init=SMALL)(h)
        zeros = jnp.zeros((*h.shape[:-1], size, size))
        factor = zeros.at[..., rows, columns].set(below)
        factor = factor + q.scale[..., None] * jnp.eye(size)[None]
        return dist.MultivariateNormal(q.loc, scale_tril=factor, validate_args=False)


class LowRankHead(nn.Module):
    """A Gaussian with covariance F F^T + diag s^2, F of `rank` columns.

    [Rezende et al. 2014, sec. 4.3: rank 1]. `base` gives mean and s, by default as
    `gaussian` does.
    """

    latents: int
    rank: int
    base: nn.Module | None = None

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        q: Any = self.base(h) if self.base else gaussian(h, self.latents)
        factor = nn.Dense(self.latents * self.rank, kernel_init=SMALL)(h)
        return dist.LowRankMultivariateNormal(
            q.loc,
            factor.reshape(*h.shape[:-1], self.latents, self.rank),
            jnp.square(q.scale),
            validate_args=False,
        )


class CategoricalHead(nn.Module):
    """Independent categorical variables [Jang et al. 2017; Maddison et al. 2017]."""

    latents: int
    categories: int
    temperature: float

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        logits = nn.Dense(self.latents * self.categories)(h)
        shape = (*h.shape[:-1], self.latents, self.categories)
        return Categories(logits.reshape(shape), self.temperature)


class FlowHead(nn.Module):
    """A diagonal Gaussian, transformed by maps that also depend on the features.

    `base` reads the Gaussian off the features, by default as `gaussian` does.
    """

    latents: int
    maps: nn.Module
    base: nn.Module | None = None

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        q = self.base(h) if self.base else gaussian(h, self.latents)
        start = dist.Independent(q, 1, validate_args=False)
        return Flow(start, self.maps(h))


class PlanarMaps(nn.Module):
    """Planar maps, each with its own parameters for each example."""

    latents: int
    layers: int

    @nn.compact
    def __call__(self, h: Array) -> tuple[Bijection, ...]:
        size = self.latents
        out = nn.Dense(self.layers * (2 * size + 1), kernel_init=SMALL)(h)
        return tuple(
            # At w = 0 and u = 0 neither would have a slope.
            Planar(part[..., :size] + 1.0, part[..., size:-1], part[..., -1])
            for part in jnp.split(out, self.layers, -1)
        )


class HouseholderMaps(nn.Module):
    """Reflections, each by a vector that is linear in the one before.

    [Tomczak & Welling 2016, eq. 8]: the first in the features.
    """

    latents: int
    layers: int

    @nn.compact
    def __call__(self, h: Array) -> tuple[Bijection, ...]:
        maps = []
        for _ in range(self.layers):
            h = nn.Dense(self.latents)(h)
            maps.append(Householder(h))
        return tuple(maps)


class SylvesterMaps(nn.Module):
    """Orthogonal Sylvester maps; Q is the orthonormal factor of a free matrix.

    [van den Berg et al. 2018, sec. 3.2]; their code orthogonalizes by iteration.
    """

    latents: int
    layers: int
    rank: int

    @nn.compact
    def __call__(self, h: Array) -> tuple[Bijection, ...]:
        return tuple(self._map(h, number) for number in range(self.layers))

    def _map(self, h: Array, number: int) -> Sylvester:
        lead, size, rank = h.shape[:-1], self.latents, self.rank
        free = nn.Dense(size * rank)(h).reshape(*lead, size, rank)
        start = nn.initializers.orthogonal()
        free = free + self.param(f"q_{number}", start, (size, rank))[None]
        q, _ = jnp.linalg.qr(free)
        r, s = (self._triangle(h) for _ in range(2))
        return Sylvester(q, r, s, nn.Dense(rank, kernel_init=SMALL)(h))

    def _triangle(self, h: Array) -> Array:
        """Upper triangular, with a diagonal in (-1, 1)."""
        rank = self.rank
        full = nn.Dense(rank * rank, kernel_init=SMALL)(h)
        full = full.reshape(*h.shape[:-1], rank, rank)
        diagonal = jnp.tanh(jnp.diagonal(full, axis1=-2, axis2=-1))
        return jnp.triu(full, 1) + diagonal[..., None] * jnp.eye(rank)[None]


class InverseAutoregressiveMaps(nn.Module):
    """Inverse autoregressive maps with a context of the features.

    [Kingma et al. 2016, algorithm 1]: the networks are the same for all examples, the
    context enters their first layer; the order of latents is reversed between maps.
    """

    latents: int
    layers: int
    hidden: Sequence[int]

    @nn.compact
    def __call__(self, h: Array) -> tuple[Bijection, ...]:
        maps: list[Bijection] = []
        for number in range(self.layers):
            context = nn.Dense(self.hidden[0])(h)
            made = made_network(self, f"made_{number}", self.latents, self.hidden)
            # Gates begin nearly open.
            gates = jnp.repeat(jnp.array([0.0, OPEN]), self.latents)
            biases = (*made.biases[:-1], made.biases[-1] + gates)
            network = Dense(made.kernels, biases, context)
            maps += [InverseAutoregressive(network), Reversed()]
        return tuple(maps[:-1])


def made_network(
    module: nn.Module, name: str, latents: int, hidden: Sequence[int]
) -> Dense:
    """The masked network of a MADE, its parameters those of the calling module."""
    return masked_network(module, name, autoregressive_masks(latents, hidden))


def masked_network(module: nn.Module, name: str, masks: Sequence[np.ndarray]) -> Dense:
    """A network whose kernels have the masks' shapes, and are 0 where these are."""
    kernels, biases = [], []
    for number, mask in enumerate(masks):
        last = number == len(masks) - 1
        start: Initializer = SMALL if last else nn.initializers.lecun_normal()
        kernel = module.param(f"{name}_kernel_{number}", start, mask.shape)
        zeros = nn.initializers.zeros
        biases.append(module.param(f"{name}_bias_{number}", zeros, mask.shape[1:]))
        kernels.append(kernel * mask)
    return Dense(tuple(kernels), tuple(biases))
