"""Distributions some entries of which are known."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.properties import has_density
from vaejax.types import Array, Key


class Known(dist.Distribution):
    """A distribution some entries of which are known: they are certain, and stay.

    Args:
      base: of all entries; batch shape `[samples, batch, ...]`.
      value: `[batch, ...]`, read where `known` is 1.
      known: `[batch, ...]`, 1 or 0.
    """

    arg_constraints = {}
    pytree_data_fields = ("base", "value", "known")

    def __init__(self, base: Any, value: Array, known: Array) -> None:
        self.base, self.value, self.known = base, value[None], known[None] == 1
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Array) -> Array:
        """log p of the unknown entries; 0 for those that are known."""
        joint = tuple(range(self.known.ndim - self.event_dim, self.known.ndim))
        certain = jnp.all(self.known, axis=joint)
        return jnp.where(certain, 0.0, self.base.log_prob(value))

    @property
    def mean(self) -> Array:
        return jnp.where(self.known, self.value, self.base.mean)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        drawn = self.base.sample(key, sample_shape)
        return jnp.where(self.known, self.value, drawn)


@has_density.register
def _(p: Known) -> bool:
    return has_density(p.base)
