"""Latents in the Poincare ball [Mathieu et al. 2019]."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions.hyperbolic import (
    WrappedNormal,
    conformal,
    exp_map,
    hyperplane_distance,
    inside,
    length,
)
from vaejax.types import Array, Batch, Distribution


class WrappedNormalHead(nn.Module):
    """q(z | x), a wrapped normal around a point of the ball."""

    latents: int
    curvature: float

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        tangent = nn.Dense(self.latents)(h)
        scale = nn.softplus(nn.Dense(self.latents)(h)) + 1e-5
        loc = exp_map(jnp.zeros_like(tangent), tangent, self.curvature)
        return WrappedNormal(loc, scale, self.curvature)


class WrappedNormalPrior(nn.Module):
    """p(z), a wrapped normal of a scale around the center."""

    latents: int
    curvature: float
    scale: float

    def __call__(self, batch: Batch) -> Distribution:
        shape = (batch["x"].shape[0], self.latents)
        scale = jnp.full(shape, self.scale)
        return WrappedNormal(jnp.zeros(shape), scale, self.curvature)


class GyroplaneBody(nn.Module):
    """A body that sees distances to hyperplanes of the ball instead of z.

    [Mathieu et al. 2019, eq. 9]: in units of the length of the normal at its point.
    """

    body: nn.Module
    planes: int
    curvature: float

    @nn.compact
    def __call__(self, z: Array) -> Any:
        c, shape = self.curvature, (self.planes, z.shape[-1])
        tangents = self.param("points", nn.initializers.normal(0.1), shape)
        points = exp_map(jnp.zeros(shape), tangents, c)
        begin = nn.initializers.lecun_normal(in_axis=1, out_axis=0)
        normals = self.param("normals", begin, shape)
        far = hyperplane_distance(inside(z, c), points, normals, c)
        size = (conformal(points, c) * length(normals))[:, 0]
        return self.body(far * size.reshape((1,) * (far.ndim - 1) + size.shape))
