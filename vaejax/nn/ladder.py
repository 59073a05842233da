"""Convolutional layers of the ladder of `addtt/ladder-vae-pytorch`.

Maps are `[..., height, width, channels]`, with a leading sample axis on the way down.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.nn.layers import Norm, hidden_dtype
from vaejax.types import Array

FIRST_SCALE = 0.1
"""Standard deviation that data-dependent initialization gives to every channel."""
TINY = 1e-5


class FittedConv(nn.Module):
    """A convolution that fits itself to its input where `params` are mutable.

    Data-dependent initialization: kernel and bias are rescaled, so that each channel
    has mean 0 and standard deviation 0.1 over the batch and all places [cf. Salimans &
    Kingma 2016, sec. 3]. Training and evaluation do not make `params` mutable. `up`
    doubles both sides by a transposed convolution, `stride` 2 halves them.
    """

    channels: int
    size: int = 3
    stride: int = 1
    up: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = (self.size, self.size)
        he = nn.initializers.he_normal()
        if self.up:
            layer: nn.Module = nn.ConvTranspose(
                self.channels,
                kernel,
                (2, 2),
                ((1, 2), (1, 2)),
                dtype=hidden_dtype(),
                kernel_init=he,
            )
        else:
            half = self.size // 2
            layer = nn.Conv(
                self.channels,
                kernel,
                self.stride,
                ((half, half), (half, half)),
                dtype=hidden_dtype(),
                kernel_init=he,
            )
        y = layer(x)
        fits = self.is_mutable_collection("params") and not self.is_initializing()
        return fit_to_unit(layer, y) if fits else y


def fit_to_unit(layer: nn.Module, y: Array) -> Array:
    """The output after kernel and bias of the layer are set to give it unit scale."""
    axes = tuple(range(y.ndim - 1))
    mean, variance = y.mean(axes), y.var(axes)
    factor = FIRST_SCALE / jnp.sqrt(variance + TINY)
    old = layer.variables["params"]
    layer.put_variable("params", "kernel", old["kernel"] * factor[None, None, None])
    layer.put_variable("params", "bias", (old["bias"] - mean) * factor)
    shape = (1,) * (y.ndim - 1) + y.shape[-1:]
    return (y - mean.reshape(shape)) * factor.reshape(shape)


class GatedBlock(nn.Module):
    """x + gate(f(x)): twice norm, ELU, 3x3 convolution and dropout of whole channels.

    The gate, if there is one, is a 1x1 convolution to twice the channels, of which one
    half after an ELU is multiplied by the sigmoid of the other.
    """

    norm: str = "batch"
    dropout: float = 0.2
    gated: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h, channels = x, x.shape[-1]
        for _ in range(2):
            h = FittedConv(channels)(nn.elu(Norm(self.norm)(h)))
            h = DropChannels(self.dropout)(h)
        if self.gated:
            a, gate = jnp.split(FittedConv(2 * channels, 1)(h), 2, -1)
            h = nn.elu(a) * nn.sigmoid(gate)
        return x + h


class BlockStyle(NamedTuple):
    """Makes residual blocks that are alike."""

    norm: str = "batch"
    dropout: float = 0.2
    gated: bool = True

    def __call__(self) -> GatedBlock:
        """A new block."""
        return GatedBlock(self.norm, self.dropout, self.gated)


class DropChannels(nn.Module):
    """Dropout of whole maps by permission: the identity without a `dropout` key."""

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        off = not self.has_rng("dropout")
        return nn.Dropout(self.rate, broadcast_dims=(-3, -2), deterministic=off)(x)


class Stage(nn.Module):
    """Residual blocks between two blocks of latents; the first `resample` halve or,
    if `up`, double the sides of their input.
    """

    blocks: int
    resample: int
    block: BlockStyle
    up: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i in range(self.blocks):
            if i < self.resample:
                stride = 1 if self.up else 2
                x = FittedConv(x.shape[-1], 3, stride, self.up)(x)
            x = self.block()(x)
        return x


class MergeMaps(nn.Module):
    """Two maps side by side through a 1x1 convolution and a gated residual block."""

    block: BlockStyle

    @nn.compact
    def __call__(self, a: Array, b: Array) -> Array:
        channels = b.shape[-1]
        a = jnp.broadcast_to(a, b.shape)
        h = FittedConv(channels, 1)(jnp.concatenate([a, b], -1))
        return self.block()(h)


class FirstMaps(nn.Module):
    """The image, padded to `sides`, as maps of half the sides."""

    channels: int
    sides: tuple[int, int]
    block: BlockStyle

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = FittedConv(self.channels, 5, 2)(padded(x, self.sides))
        return self.block()(nn.elu(x))


class LastMaps(nn.Module):
    """Maps doubled by interpolation, residual blocks, cropped, and a 3x3 convolution.

    Ends at `shape` `(height, width, channels)`.
    """

    shape: tuple[int, int, int]
    stage: nn.Module

    @nn.compact
    def __call__(self, h: Array) -> Array:
        height, width, outputs = self.shape
        *lead, rows, columns, channels = h.shape
        h = jax.image.resize(h, (*lead, 2 * rows, 2 * columns, channels), "bilinear")
        h = cropped(self.stage(h), (height, width))
        return FittedConv(outputs)(h)


def padded(x: Array, sides: tuple[int, int]) -> Array:
    """`[..., H, W, C]` with zeros around it, half of them before."""
    around = [(0, 0)] * (x.ndim - 3)
    for size, wanted in zip(x.shape[-3:-1], sides, strict=True):
        more = wanted - size
        around.append((more // 2, more - more // 2))
    return jnp.pad(x, [*around, (0, 0)])


def cropped(x: Array, sides: tuple[int, int]) -> Array:
    """The middle of `[..., H, W, C]`: the inverse of `padded`."""
    top, left = (
        (size - wanted) // 2 for size, wanted in zip(x.shape[-3:-1], sides, strict=True)
    )
    return x[..., top : top + sides[0], left : left + sides[1], :]
