"""Bodies that read two vectors."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from vaejax.nn.starts import LECUN, Start
from vaejax.types import Array


class BranchedDecoder(nn.Module):
    """From two vectors side by side to `shape`: a body of each, then a joint one.

    The first vector has `first` entries.
    """

    left: nn.Module
    right: nn.Module
    joint: nn.Module
    first: int
    shape: Sequence[int]
    start: Start = LECUN

    @nn.compact
    def __call__(self, z: Array) -> Array:
        # Of a product with two batch axes XLA's CPU backend transposes the gradient.
        rows = z[0] if z.shape[0] == 1 else z
        a, b = rows[..., : self.first], rows[..., self.first :]
        h = self.joint(jnp.concatenate([self.left(a), self.right(b)], -1))
        out = self.start.dense(math.prod(self.shape), h.shape[-1])(h)
        return out.reshape(*z.shape[:-1], *self.shape)
