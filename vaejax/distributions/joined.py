"""Independent densities of blocks of latents as one vector."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.properties import draw_with_log_prob
from vaejax.types import Array, Key


class Joined(dist.Distribution):
    """Independent densities side by side, joint over all of them.

    Args:
      parts: each over `[batch, latents]`, elementwise or joint.
    """

    arg_constraints = {}
    pytree_data_fields = ("parts",)
    support: Any = dist.constraints.real_vector
    has_rsample: Any = True

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = tuple(parts)
        sizes = [part.shape()[-1] for part in self.parts]
        self.ends = tuple(itertools.accumulate(sizes))
        examples = self.parts[0].shape()[0]
        super().__init__((examples,), self.ends[-1:], validate_args=False)

    def rsample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        if sample_shape:
            keys = jax.random.split(key, sample_shape[0])
            return jax.vmap(lambda own: self.rsample(own, sample_shape[1:]))(keys)
        keys = jax.random.split(key, len(self.parts))
        drawn = [
            draw_with_log_prob(part, own)[0]
            for part, own in zip(self.parts, keys, strict=True)
        ]
        return jnp.concatenate(drawn, -1)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return jax.lax.stop_gradient(self.rsample(key, sample_shape))

    def log_prob(self, value: Array) -> Array:
        entries = jnp.split(value, self.ends[:-1], -1)
        found = [p.log_prob(e) for p, e in zip(self.parts, entries, strict=True)]
        sums = [
            each if part.event_dim else each.sum(-1)
            for part, each in zip(self.parts, found, strict=True)
        ]
        return jnp.stack(sums).sum(0)

    @property
    def mean(self) -> Array:
        return jnp.concatenate([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Array:
        return jnp.concatenate([part.variance for part in self.parts], -1)
