"""Properties of distributions that inference needs; other modules register theirs."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.types import Array, Distribution


@singledispatch
def has_density(p: Any) -> bool:
    """Whether a distribution has a density or probabilities; a point mass has none."""
    return True


@has_density.register
def _(p: dist.Delta) -> bool:
    return False


@singledispatch
def scale_of(px: Distribution) -> Array | None:
    """The standard deviation (root mean square over all entries) of a Gaussian."""
    return None


@scale_of.register
def _(px: dist.Normal) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(jnp.asarray(px.scale))))


@singledispatch
def expectation(px: Distribution) -> Array:
    """The quantity averaged over z to impute x: E[x | z] where x is a number."""
    return px.mean


@singledispatch
def encoding(px: Distribution, x: Array) -> Array:
    """Values as `expectation` is of: the same where x is a number."""
    del px
    return x
