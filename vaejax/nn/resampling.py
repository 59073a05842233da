"""Maps `[..., height, width, channels]` pooled, enlarged and repeated."""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.nn.starts import Initializer
from vaejax.types import Array


def pooled(x: Array, rate: int) -> Array:
    """Means of squares of `rate` x `rate` pixels."""
    *lead, height, width, channels = x.shape
    parts = (height // rate, rate, width // rate, rate, channels)
    return x.reshape(*lead, *parts).mean((-4, -2))


def enlarged(x: Array, rate: int) -> Array:
    """Each pixel copied to a square of `rate` x `rate`."""
    *lead, height, width, channels = x.shape
    copies = jnp.broadcast_to(
        x[..., :, None, :, None, :], (*lead, height, rate, width, rate, channels)
    )
    return copies.reshape(*lead, height * rate, width * rate, channels)


def to_width(x: Array, width: int) -> Array:
    """The first `width` channels; zeros where there are fewer."""
    lacking = max(0, width - x.shape[-1])
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, lacking)])
    return padded[..., :width]


def with_lead(x: Array, lead: tuple[int, ...]) -> Array:
    """Maps repeated along axes in front of them, so that these are `lead`."""
    new = (None,) * (len(lead) + 3 - x.ndim)
    return jnp.broadcast_to(x[new], (*lead, *x.shape[-3:]))


class Shrink(nn.Module):
    """A map pooled by `rate`, with `width` channels: by means or by a layer."""

    learned: bool
    start: Initializer
    rate: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.learned:
            return to_width(pooled(x, self.rate), self.width)
        shape = (self.rate, self.rate)
        made = nn.Conv(self.width, shape, shape, kernel_init=self.start)(x)
        return nn.leaky_relu(made, 0.1)


class Enlarge(nn.Module):
    """A map enlarged by `rate`, with `width` channels: by copies or by a layer."""

    learned: bool
    start: Initializer
    rate: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.learned:
            return enlarged(to_width(x, self.width), self.rate)
        made = nn.Dense(self.width, kernel_init=self.start)(x)
        return enlarged(nn.leaky_relu(made, 0.1), self.rate)
