"""Distributions at a temperature: the same means, other spreads."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.errors import InputError
from vaejax.types import Array


def cooled(p: Any, temperature: float | Array | None) -> Any:
    """p at a temperature; p itself where that is None."""
    return p if temperature is None else at_temperature(p, temperature)


@singledispatch
def at_temperature(p: Any, temperature: float | Array) -> Any:
    """p with its standard deviations multiplied; of mixtures those of components.

    Raises:
      InputError: nothing of p is a Gaussian.
    """
    raise InputError(
        f"--temperature scales Gaussians, and p(z) is {type(p).__name__}: leave it out"
    )


@at_temperature.register
def _(p: dist.Normal, temperature: float | Array) -> dist.Normal:
    # Of numpyro's class: a subclass may have other parameters.
    loc = jnp.asarray(p.loc)
    scale = jnp.broadcast_to(temperature * jnp.asarray(p.scale), loc.shape)
    return dist.Normal(loc, scale, validate_args=False)


@at_temperature.register
def _(p: dist.Delta, temperature: float | Array) -> dist.Delta:
    del temperature  # there is no spread
    return p


@at_temperature.register
def _(p: dist.Independent, temperature: float | Array) -> dist.Independent:
    base = at_temperature(p.base_dist, temperature)
    return dist.Independent(base, p.reinterpreted_batch_ndims, validate_args=False)


@at_temperature.register
def _(p: dist.MixtureSameFamily, temperature: float | Array) -> Any:
    each = at_temperature(p.component_distribution, temperature)
    return dist.MixtureSameFamily(p.mixing_distribution, each, validate_args=False)
