"""The body of a critic that scores patches of an image instead of all of it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn

from vaejax.nn.layers import Activation, append_condition, hidden_dtype, linear
from vaejax.types import Array

START = nn.initializers.normal(0.02)
"""Kernels of PatchGAN's convolutions at first [Isola et al. 2017, sec. 6.2]."""
WINDOW = 4
"""Side of the windows of its convolutions."""
LEAKY = partial(nn.leaky_relu, negative_slope=0.2)  # [Radford et al. 2016]


def patch_conv(
    channels: int, stride: int = 1, bias: bool = True, dtype: Any = None
) -> nn.Conv:
    """A 4x4 convolution that sees one pixel of padding on each side."""
    return nn.Conv(
        channels,
        (WINDOW, WINDOW),
        (stride, stride),
        padding=1,
        use_bias=bias,
        kernel_init=START,
        dtype=dtype,
    )


def patch_widths(channels: int, layers: int) -> tuple[int, ...]:
    """Channels of each layer: they double from layer to layer, up to 8 times."""
    return tuple(channels * min(2**n, 8) for n in range(layers + 1))


def least_patch_side(layers: int) -> int:
    """The narrowest image, in pixels, that such a critic has a score of."""
    return 3 * 2**layers


class PatchBody(nn.Module):
    """4x4 convolutions of stride 2, and a last one of stride 1 [Isola et al. 2017].

    `features` are x and the map after each layer, `[batch, h, w, channels]`. Every
    place of the last map sees a patch of the image: with three widths that halve, and
    the convolution that scores, of 70 x 70 pixels. The first layer has no norm; a layer
    with batch normalization, which shifts its output, has no bias. By default, but with
    that norm, it is the discriminator of [Rombach et al. 2022]. A condition enters as
    constant planes beside the channels.
    """

    widths: Sequence[int] = patch_widths(64, 3)
    norm: str = "none"
    activation: Activation = LEAKY

    @nn.compact
    def features(self, x: Array, c: Array | None = None) -> tuple[Array, ...]:
        layers = [x]
        x = append_condition(x, None if c is None else c[:, None, None])
        last = len(self.widths) - 1
        for number, width in enumerate(self.widths):
            norm = self.norm if number or self.norm == "spectral" else "none"
            stride = 1 if number == last else 2
            layer = patch_conv(width, stride, norm != "batch", hidden_dtype())
            x = self.activation(linear(layer, norm, x))
            layers.append(x)
        return tuple(layers)

    def __call__(self, x: Array, c: Array | None = None) -> Array:
        return self.features(x, c)[-1]
