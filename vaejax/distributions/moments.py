"""Marginals and covariances of densities over latents, where they have formulas."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float

from vaejax.distributions.plain import Normal
from vaejax.errors import InputError
from vaejax.types import Array


@singledispatch
def marginals(q: Any) -> Any:
    """The density of each latent alone, elementwise.

    Raises:
      InputError: q is joint, and its marginals have no formula.
    """
    if q.event_dim:
        raise InputError(f"{type(q).__name__} has no formula for one latent's density")
    return q


@marginals.register(dist.MultivariateNormal)
@marginals.register(dist.LowRankMultivariateNormal)
def _(q: Any) -> Any:
    return Normal(q.mean, jnp.sqrt(q.variance))


@singledispatch
def covariance(q: Any) -> Float[Array, "batch latents latents"]:
    """The covariance matrix of the latents of each example.

    Raises:
      InputError: q is joint, and its covariance has no formula.
    """
    if q.event_dim:
        raise InputError(f"{type(q).__name__} has no formula for its covariance")
    return q.variance[..., None] * jnp.eye(q.batch_shape[-1])[None]


@covariance.register(dist.MultivariateNormal)
@covariance.register(dist.LowRankMultivariateNormal)
def _(q: Any) -> Array:
    return q.covariance_matrix
