"""Blocks and levels of the networks of `vaejax.nn.feature_maps`."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.errors import InputError
from vaejax.nn.layers import Dropout, hidden_dtype, recomputes
from vaejax.nn.resampling import enlarged
from vaejax.nn.starts import TORCH
from vaejax.types import Array


class MapSizes(NamedTuple):
    """Sizes of an encoder or a decoder, level by level from the image downwards."""

    widths: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of the maps of each level; each further level has half the side."""
    blocks: int = 2
    """Residual blocks of a level of the encoder; the decoder has one more."""
    attended: tuple[int, ...] = ()
    """Levels, counted from 0, whose residual blocks attention follows."""
    middle_attention: bool = True
    groups: int = 32
    """Groups of channels of each group norm; the number divides every width."""
    dropout: float = 0.0
    """Share that is dropped before the second convolution of each residual block."""
    remat: bool = False
    """Whether residual blocks are computed again for the gradient instead of being
    kept [Chen et al. 2016]."""

    @property
    def factor(self) -> int:
        """Sides of the image per side of the latent map, 2^(levels - 1)."""
        return 2 ** (len(self.widths) - 1)


def convolution(
    width: int, inputs: int, side: int = 3, dtype: Any = None, **more: Any
) -> nn.Conv:
    """A convolution that begins as PyTorch's do, of maps of `inputs` channels."""
    return nn.Conv(
        width,
        (side, side),
        dtype=dtype,
        kernel_init=TORCH.kernel,
        bias_init=TORCH.bias(side * side * inputs),
        **more,
    )


def group_norm(groups: int, channels: int, name: str | None = None) -> nn.GroupNorm:
    """The norm over each of `groups` groups of channels of an image.

    Raises:
      InputError: `groups` does not divide `channels`.
    """
    if groups < 1 or channels % groups:
        raise InputError(
            f"{channels} channels are not to be split into {groups} groups of a group "
            "norm: give a number of groups that divides every width"
        )
    # In two passes: activations of trained networks have means that are large beside
    # their deviations, of which E[x^2] - E[x]^2 keeps few digits.
    return nn.GroupNorm(
        groups,
        epsilon=1e-6,
        reduction_axes=(-3, -2, -1),
        use_fast_variance=False,
        dtype=hidden_dtype(),
        name=name,
    )


class ResnetBlock(nn.Module):
    """s(x) + conv(dropout(silu(norm(conv(silu(norm(x))))))) with `width` channels.

    The shortcut s is the identity, or a 1x1 convolution where the width changes.
    """

    width: int
    groups: int = 32
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width, inputs, dtype = self.width, x.shape[-1], hidden_dtype()
        h = nn.silu(group_norm(self.groups, inputs, "norm1")(x))
        h = convolution(width, inputs, dtype=dtype, name="conv1")(h)
        h = Dropout(self.dropout)(nn.silu(group_norm(self.groups, width, "norm2")(h)))
        h = convolution(width, width, dtype=dtype, name="conv2")(h)
        if width != inputs:
            x = convolution(width, inputs, 1, dtype, name="conv_shortcut")(x)
        return x + h


class MapAttention(nn.Module):
    """x + attention of every pixel to all pixels, with one head [Vaswani et al. 2017].

    Weights are softmax(q k / sqrt(channels)), in float32.
    """

    groups: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        *lead, height, width, channels = x.shape
        h = group_norm(self.groups, channels, "group_norm")(x)
        h = h.reshape(*lead, height * width, channels)
        q, k, v = (self._linear(name, h) for name in ("to_q", "to_k", "to_v"))
        scores = jnp.einsum(
            "...qc,...kc->...qk", q, k, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(scores / math.sqrt(channels)).astype(v.dtype)
        seen = jnp.einsum("...qk,...kc->...qc", weights, v)
        return x + self._linear("to_out_0", seen).reshape(x.shape)

    def _linear(self, name: str, h: Array) -> Array:
        channels = h.shape[-1]
        kernel, bias = TORCH.kernel, TORCH.bias(channels)
        dtype = hidden_dtype()
        return nn.Dense(
            channels, dtype=dtype, kernel_init=kernel, bias_init=bias, name=name
        )(h)


class MapHalving(nn.Module):
    """A 3x3 convolution of stride 2, padded below and on the right alone."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        more = {"strides": 2, "padding": ((0, 1), (0, 1)), "name": "conv"}
        return convolution(self.width, x.shape[-1], dtype=hidden_dtype(), **more)(x)


class MapDoubling(nn.Module):
    """Each pixel copied to a square of 2 x 2, and a 3x3 convolution."""

    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        more = {"dtype": hidden_dtype(), "name": "conv"}
        return convolution(self.width, x.shape[-1], **more)(enlarged(x, 2))


class Resampler(NamedTuple):
    """The layer between two levels, and its name."""

    layer: type[MapHalving | MapDoubling]
    name: str


DOWN = Resampler(MapHalving, "downsamplers_0")
UP = Resampler(MapDoubling, "upsamplers_0")


def resnet_block(part: "MapLevel | Middle", width: int, name: str) -> nn.Module:
    """A residual block of a part, kept for the gradient or computed again."""
    sizes = part.sizes
    kind: Any = nn.remat(ResnetBlock) if recomputes(part, sizes.remat) else ResnetBlock
    return kind(width, sizes.groups, sizes.dropout, name=name)


class MapLevel(nn.Module):
    """The residual blocks of level `number`, and the way to the next one, if any."""

    sizes: MapSizes
    number: int
    blocks: int
    resampler: Resampler | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        sizes, width = self.sizes, self.sizes.widths[self.number]
        for i in range(self.blocks):
            x = resnet_block(self, width, f"resnets_{i}")(x)
            if self.number in sizes.attended:
                x = MapAttention(sizes.groups, name=f"attentions_{i}")(x)
        if self.resampler:
            x = self.resampler.layer(width, name=self.resampler.name)(x)
        return x


class Middle(nn.Module):
    """Two residual blocks on the smallest maps, attention between them."""

    sizes: MapSizes

    @nn.compact
    def __call__(self, x: Array) -> Array:
        sizes, width = self.sizes, self.sizes.widths[-1]
        x = resnet_block(self, width, "resnets_0")(x)
        if sizes.middle_attention:
            x = MapAttention(sizes.groups, name="attentions_0")(x)
        return resnet_block(self, width, "resnets_1")(x)
