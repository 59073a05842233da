"""Bodies of the VQ-VAE: strided convolutions and residual blocks, to maps and back.

An encoder body maps images `[batch, H, W, C]` to `[batch, H / f, W / f, width]`, f two
to the power of its stages, the decoder body `[..., H / f, W / f, c]` to `[..., H, W,
outputs]`, with any axes in front.
"""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.nn.layers import conv, double, halve, hidden_dtype
from vaejax.types import Array


def with_edge(x: Array) -> Array:
    """A map with one row or column of zeros more on each side."""
    edges = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    return jnp.pad(x, edges)


class HalvingConv(nn.Module):
    """A 4x4 convolution of stride 2: a 2x2 one of 2x2 blocks that are shifted by one.

    The gradient of this form needs no dilated convolution, which CPUs are slow at.
    """

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer = nn.Conv(self.width, (2, 2), padding="VALID", dtype=hidden_dtype())
        return layer(halve(with_edge(x)))


class DoublingConv(nn.Module):
    """A transposed 4x4 convolution of stride 2, made in the same way.

    With `last` it computes in float32, as what is read off a body does.
    """

    width: int
    last: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        *_, height, width, _ = x.shape
        dtype = None if self.last else hidden_dtype()
        layer = nn.Conv(4 * self.width, (2, 2), padding="VALID", dtype=dtype)
        x = double(layer(with_edge(x)), 2 * height + 2, 2 * width + 2)
        return x[..., 1:-1, 1:-1, :]


class ThinBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), with `inner` channels between the two."""

    inner: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = nn.relu(conv(self.inner)(nn.relu(x)))
        return x + nn.Conv(x.shape[-1], (1, 1), dtype=hidden_dtype())(h)


class StridedEncoder(nn.Module):
    """Strided convolutions, residual blocks [van den Oord et al. 2017, sec. 4.1]."""

    width: int = 256
    inner: int = 256
    blocks: int = 2
    stages: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for stage in range(self.stages):
            x = HalvingConv(self.width)(nn.relu(x) if stage else x)
        for _ in range(self.blocks):
            x = ThinBlock(self.inner)(x)
        return nn.relu(x)


class StridedDecoder(nn.Module):
    """The mirror of `StridedEncoder`, to `outputs` channels; first a 3x3 convolution.

    `output(features(z))` is what it gives: the last layer is apart.
    """

    outputs: int
    width: int = 256
    inner: int = 256
    blocks: int = 2
    stages: int = 2

    def setup(self) -> None:
        # Where all codes stand for 0, as may be at first, no ReLU after a bias of 0
        # would have a slope, and the encoder none for ever.
        small = nn.initializers.normal(0.1)
        dtype = hidden_dtype()
        self.first = nn.Conv(self.width, (3, 3), dtype=dtype, bias_init=small)
        self.middle = [ThinBlock(self.inner) for _ in range(self.blocks)]
        self.doublings = [DoublingConv(self.width) for _ in range(self.stages - 1)]
        self.last = DoublingConv(self.outputs, last=True)

    def features(self, z: Array) -> Array:
        """The map before the last layer."""
        x = self.first(z)
        for block in self.middle:
            x = block(x)
        for layer in self.doublings:
            x = layer(nn.relu(x))
        return x

    def output(self, h: Array) -> Array:
        """The last layer: an activation, and a transposed convolution."""
        return self.last(nn.relu(h))

    def __call__(self, z: Array) -> Array:
        return self.output(self.features(z))
