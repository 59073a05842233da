"""Networks of velocities: of x `[rows, *shape]` at times t `[rows]` in [0, 1].

Each maps x, t and a condition c `[rows, conditions]`, where there is one, to a velocity
of the shape of x, which is 0 in a fresh network.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.nn.layers import (
    Activation,
    Dropout,
    Norm,
    conv,
    dense,
    double,
    halve,
    hidden_dtype,
)
from vaejax.nn.transformer import SelfAttention
from vaejax.types import Array

FASTEST = 100.0
"""Radians per unit of time of the fastest of a time's waves; the slowest has 1."""
ZEROS = nn.initializers.zeros


def time_waves(t: Float[Array, " rows"], width: int = 32) -> Float[Array, "rows width"]:
    """Sines and cosines of times at `width` / 2 speeds [Vaswani et al. 2017, 3.5].

    Speeds grow geometrically from 1 to `FASTEST` radians per unit of time.
    """
    speeds = jnp.geomspace(1.0, FASTEST, width // 2)
    angles = t[:, None] * speeds[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class TimeEmbedding(nn.Module):
    """Features `[rows, width]` of a time and a condition, for every layer to add."""

    width: int

    @nn.compact
    def __call__(self, t: Array, c: Array | None = None) -> Array:
        h = dense(self.width)(time_waves(t))
        if c is not None:
            h = h + nn.Dense(self.width, use_bias=False, dtype=hidden_dtype())(c)
        return nn.silu(dense(self.width)(nn.silu(h)))


class VelocityMLP(nn.Module):
    """Dense layers over all entries of x, each with the time and c added to it."""

    hidden: Sequence[int] = (256, 256, 256)
    activation: Activation = nn.silu
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, t: Array, c: Array | None = None) -> Array:
        h = x.reshape(len(x), -1)
        known = TimeEmbedding(self.hidden[0])(t, c)
        for width in self.hidden:
            h = self.activation(dense(width)(h) + dense(width)(known))
            h = Dropout(self.dropout)(h)
        size = math.prod(x.shape[1:])
        return nn.Dense(size, kernel_init=ZEROS)(h).reshape(x.shape)


class TimedBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + time))), with `width` channels.

    The last convolution is 0 at first [Ho et al. 2020, app. B; Dhariwal & Nichol 2021].
    A 1x1 convolution changes the width of x where it is another.
    """

    width: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, known: Array) -> Array:
        h = conv(self.width)(nn.silu(Norm("group")(x)))
        h = h + dense(self.width)(known)[:, None, None]
        h = Dropout(self.dropout)(nn.silu(Norm("group")(h)))
        h = conv(self.width, ZEROS)(h)
        if x.shape[-1] != self.width:
            x = dense(self.width)(x)
        return x + h


class PixelAttention(nn.Module):
    """x + attention of all places of a map to all; its last kernel is 0 at first."""

    heads: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        rows, height, width, channels = x.shape
        h = Norm("group")(x).reshape(rows, height * width, channels)
        h = SelfAttention(channels, self.heads, causal=False, spread=0.0)(h)
        return x + h.reshape(x.shape)


class VelocityUNet(nn.Module):
    """Residual blocks down and up over maps, with links between [Ho et al. 2020].

    `channels` are those of each level; each has half the sides of the one before, of
    any sides, and `blocks` residual blocks on either way. With `attention` the smallest
    maps attend to all their places.
    """

    channels: Sequence[int] = (32, 64)
    blocks: int = 1
    attention: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, t: Array, c: Array | None = None) -> Array:
        known = TimeEmbedding(4 * self.channels[0])(t, c)
        h, links = self._down(conv(self.channels[0])(x), known)
        h = self._block(self.channels[-1], h, known)
        if self.attention:
            h = PixelAttention()(h)
        h = self._block(self.channels[-1], h, known)
        h = nn.silu(Norm("group")(self._up(h, links, known)))
        return nn.Conv(x.shape[-1], (3, 3), kernel_init=ZEROS)(h)

    def _block(self, width: int, h: Array, known: Array) -> Array:
        return TimedBlock(width, self.dropout)(h, known)

    def _down(self, h: Array, known: Array) -> tuple[Array, list[Array]]:
        """The smallest maps, and what follows each block, level by level."""
        links = []
        for number, width in enumerate(self.channels):
            if number:
                h = conv(width)(halve(h))
            for _ in range(self.blocks):
                h = self._block(width, h, known)
                links.append(h)
        return h, links

    def _up(self, h: Array, links: list[Array], known: Array) -> Array:
        """The largest maps from the smallest, each block with the one beside it."""
        for number in reversed(range(len(self.channels))):
            for _ in range(self.blocks):
                h = jnp.concatenate([h, links.pop()], -1)
                h = self._block(self.channels[number], h, known)
            if number:
                height, width = links[-1].shape[-3:-1]
                h = double(conv(4 * self.channels[number - 1])(h), height, width)
        return h
