"""Encoder and decoder of feature maps, as latent diffusion has them.

The networks of [Esser et al. 2021] and [Rombach et al. 2022, app. G]: levels
of residual blocks, a side halved or doubled between two levels, and attention in the
middle. Parts are called as in diffusers' `AutoencoderKL` and `VQModel`, `_n` for `.n`,
so that weights go over by name; see `vaejax.sharing.diffusers`.
"""

from collections.abc import Callable

import flax.linen as nn

from vaejax.errors import InputError
from vaejax.nn.feature_blocks import (
    DOWN,
    UP,
    MapLevel,
    MapSizes,
    Middle,
    convolution,
    group_norm,
)
from vaejax.nn.layers import append_condition, hidden_dtype
from vaejax.types import Array


class FeatureMapEncoder(nn.Module):
    """Images `[batch, H, W, channels]` to maps `[batch, H / f, W / f, outputs]`.

    f is `sizes.factor`. With `projected` a 1x1 convolution to that many channels, the
    reference's `quant_conv`, comes last. A condition enters as constant planes beside
    the channels.

    Raises:
      InputError: f does not divide height and width.
    """

    outputs: int
    sizes: MapSizes = MapSizes()
    projected: int | None = None

    @nn.compact
    def features(self, x: Array, c: Array | None = None) -> tuple[Array, ...]:
        sizes = self.sizes
        check_halvings(sizes, *x.shape[-3:-1])
        layers = [x]
        x = append_condition(x, None if c is None else c[:, None, None])
        first, dtype = sizes.widths[0], hidden_dtype()
        x = convolution(first, x.shape[-1], dtype=dtype, name="conv_in")(x)
        last = len(sizes.widths) - 1
        for number in range(last + 1):
            down = DOWN if number < last else None
            name = f"down_blocks_{number}"
            x = MapLevel(sizes, number, sizes.blocks, down, name=name)(x)
            layers.append(x)
        x = Middle(sizes, name="mid_block")(x)
        x = nn.silu(group_norm(sizes.groups, x.shape[-1], "conv_norm_out")(x))
        # In float32, as all that is read off a body.
        x = convolution(self.outputs, x.shape[-1], name="conv_out")(x)
        if self.projected is not None:
            x = convolution(self.projected, x.shape[-1], 1, name="quant_conv")(x)
        return (*layers, x)

    def __call__(self, x: Array, c: Array | None = None) -> Array:
        return self.features(x, c)[-1]


def check_halvings(sizes: MapSizes, height: int, width: int) -> None:
    """InputError where a side cannot be halved between all levels."""
    if height % sizes.factor or width % sizes.factor:
        raise InputError(
            f"images of {height} x {width} cannot be halved {len(sizes.widths) - 1} "
            f"times: give a height and a width that {sizes.factor} divides, or fewer "
            "levels"
        )


class FeatureMapDecoder(nn.Module):
    """Maps `[..., h, w, latents]` to `[..., f h, f w, outputs]`; the mirror of
    `FeatureMapEncoder`.

    With `projected` a 1x1 convolution to that many channels, the reference's
    `post_quant_conv`, comes first. `outputs` are numbers per pixel.
    """

    outputs: int
    sizes: MapSizes = MapSizes()
    projected: int | None = None

    @property
    def last_kernel(self) -> tuple[str, ...]:
        """Place of the kernel of the last convolution in the parameters."""
        return ("conv_out", "kernel")

    @nn.compact
    def features(self, z: Array) -> Array:
        """All before the last norm: `[..., f h, f w, widths[0]]`."""
        sizes, dtype = self.sizes, hidden_dtype()
        if self.projected is not None:
            named = {"dtype": dtype, "name": "post_quant_conv"}
            z = convolution(self.projected, z.shape[-1], 1, **named)(z)
        x = convolution(sizes.widths[-1], z.shape[-1], dtype=dtype, name="conv_in")(z)
        x = Middle(sizes, name="mid_block")(x)
        for step, number in enumerate(reversed(range(len(sizes.widths)))):
            up, name = UP if number else None, f"up_blocks_{step}"
            x = MapLevel(sizes, number, sizes.blocks + 1, up, name=name)(x)
        return x

    @nn.compact
    def output(self, h: Array) -> Array:
        """The last norm, activation and convolution, `conv_out`, in float32."""
        h = nn.silu(group_norm(self.sizes.groups, h.shape[-1], "conv_norm_out")(h))
        return convolution(self.outputs, h.shape[-1], name="conv_out")(h)

    def __call__(self, z: Array) -> Array:
        return maps_as_rows(lambda rows: self.output(self.features(rows)), z)


def maps_as_rows(layers: Callable[[Array], Array], z: Array) -> Array:
    """Layers applied to maps `[samples, batch, ...]` with both leading axes as one.

    Examples go first, so that devices which part these part the rows in the same way.
    """
    if z.ndim != 5:
        return layers(z)
    samples, batch, *shape = z.shape
    out = layers(z.swapaxes(0, 1).reshape(batch * samples, *shape))
    return out.reshape(batch, samples, *out.shape[1:]).swapaxes(0, 1)
