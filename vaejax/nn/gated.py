"""Gated layers, h * sigmoid(g), and the convolutional bodies made of them.

h and g are two layers of the same input, without another nonlinearity [Dauphin et al.
2017, eq. 1].
"""

from collections.abc import Sequence

import flax.linen as nn

from vaejax.nn.layers import append_condition, dense, hidden_dtype
from vaejax.nn.starts import LECUN, TORCH, Start, torch_transposed
from vaejax.types import Array

LAST = 256
"""Features that the encoder's last convolution gives."""


class GatedDense(nn.Module):
    """h * sigmoid(g) of two dense layers."""

    width: int
    start: Start = LECUN

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inputs = x.shape[-1]
        h, g = (dense(self.width, inputs, self.start)(x) for _ in range(2))
        return h * nn.sigmoid(g)


class GatedConv(nn.Module):
    """h * sigmoid(g) of two convolutions over `[..., height, width, channels]`.

    They begin as those of PyTorch.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        bias = TORCH.bias(self.kernel[0] * self.kernel[1] * x.shape[-1])
        around = (self.padding, self.padding)
        h, g = (
            nn.Conv(
                self.channels,
                self.kernel,
                self.stride,
                (around, around),
                dtype=hidden_dtype(),
                kernel_init=TORCH.kernel,
                bias_init=bias,
            )(x)
            for _ in range(2)
        )
        return h * nn.sigmoid(g)


class GatedTransposedConv(nn.Module):
    """h * sigmoid(g) of two transposed convolutions, padded as PyTorch pads them.

    n pixels become stride * (n - 1) + kernel - 2 * padding + more.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    more: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        bias = TORCH.bias(self.kernel[0] * self.kernel[1] * self.channels)
        before = [size - 1 - self.padding for size in self.kernel]
        around = [(each, each + self.more) for each in before]
        h, g = (
            nn.ConvTranspose(
                self.channels,
                self.kernel,
                (self.stride, self.stride),
                around,
                dtype=hidden_dtype(),
                kernel_init=torch_transposed,
                bias_init=bias,
            )(x)
            for _ in range(2)
        )
        return h * nn.sigmoid(g)


class GatedConvEncoder(nn.Module):
    """Gated convolutions to 256 features [van den Berg et al. 2018, sec. 6.1, code].

    `channels` are those of the two halves; each halves both sides once, and the last
    kernel is as large as what is left.
    """

    channels: tuple[int, int] = (32, 64)

    @nn.compact
    def __call__(self, x: Array, c: Array | None = None) -> Array:
        x = append_condition(x, None if c is None else c[:, None, None])
        low, high = self.channels
        for width, stride in ((low, 1), (low, 2), (high, 1), (high, 2), (high, 1)):
            x = GatedConv(width, (5, 5), stride, 2)(x)
        height, width = x.shape[-3:-1]
        return GatedConv(LAST, (height, width))(x).reshape(x.shape[0], -1)


class GatedConvDecoder(nn.Module):
    """Gated transposed convolutions from latents to `shape`, the mirror of the encoder.

    The sides of `shape` must be multiples of 4.
    """

    shape: Sequence[int]
    channels: tuple[int, int] = (32, 64)

    @nn.compact
    def __call__(self, z: Array) -> Array:
        height, width, outputs = self.shape
        low, high = self.channels
        x = z.reshape(-1, 1, 1, z.shape[-1])
        x = GatedTransposedConv(high, (height // 4, width // 4))(x)
        layers = ((high, 1, 0), (low, 2, 1), (low, 1, 0), (low, 2, 1), (low, 1, 0))
        for channels, stride, more in layers:
            x = GatedTransposedConv(channels, (5, 5), stride, 2, more)(x)
        bias = TORCH.bias(low)
        x = nn.Conv(outputs, (1, 1), kernel_init=TORCH.kernel, bias_init=bias)(x)
        return x.reshape(*z.shape[:-1], *self.shape)
