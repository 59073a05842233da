"""Distributions of numpyro that are used nearly as they are, without its validation."""

from functools import partial

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.types import Array, ArrayLike

Normal = partial(dist.Normal, validate_args=False)
Delta = partial(dist.Delta, validate_args=False)


class Laplace(dist.Laplace):
    """Laplace whose slope by its location is 0 where the value is the location.

    numpyro's own is 1 / scale there, as JAX gives abs the slope 1 at 0: a decoder that
    has a value right would be driven away from it, to the same side each time.
    """

    def __init__(self, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> None:
        super().__init__(loc, scale, validate_args=False)

    def log_prob(self, value: ArrayLike) -> Array:
        loc, scale = jnp.asarray(self.loc), jnp.asarray(self.scale)
        away = value - loc
        # At ties the maximum shares the slope, which cancels.
        return -jnp.maximum(away, -away) / scale - jnp.log(2 * scale)
