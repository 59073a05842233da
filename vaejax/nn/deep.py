"""Networks of deep hierarchies of latents, in the two styles that were published.

Maps are `[..., side, side, channels]`, with any axes in front. Convolutions of 1 x 1
are dense layers over channels.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.nn.layers import Activation, hidden_dtype
from vaejax.nn.layout import Layout, Size
from vaejax.nn.resampling import Enlarge, Shrink, with_lead
from vaejax.nn.starts import GLOROT, Initializer, within_inputs
from vaejax.types import Array

LEAST_OF_3X3 = 3
"""Least side of maps on which convolutions are of 3 x 3; on others it is 1 x 1."""
LARGEST_WITH_BIAS = 64
"""Largest side that has a learned map of its own [Child 2021: `no_bias_above`]."""


class Style(NamedTuple):
    """The differences between the models of Child 2021 and of Hazami et al. 2022."""

    activation: Activation
    start: Initializer
    """Initializer of kernels that have no smaller start of their own; biases are 0."""
    mirrored: bool
    """Whether each block of the decoder sees a block of the encoder of its own."""
    resampled: bool
    """Whether maps are pooled and enlarged by learned layers, and not by means and
    copies."""
    projected: bool
    """Whether one more layer makes Gaussians of the features of prior and posterior."""
    zero_prior: bool
    """Whether all priors begin at 0, hence as standard normals."""
    input_side: int
    """Side of the first convolution."""
    scaled_output: bool
    """Whether channels of the last map are scaled and shifted before p(x | z)."""


VDVAE = Style(
    activation=partial(nn.gelu, approximate=False),
    start=within_inputs,
    mirrored=False,
    resampled=False,
    projected=False,
    zero_prior=True,
    input_side=3,
    scaled_output=True,
)
"""[Child 2021], as its code has it."""
EFFICIENT = Style(
    activation=nn.silu,
    start=GLOROT.kernel,
    mirrored=True,
    resampled=True,
    projected=True,
    zero_prior=False,
    input_side=1,
    scaled_output=False,
)
"""[Hazami et al. 2022], as its code has it."""


def shrunk(start: Initializer, factor: float) -> Initializer:
    """Weights `factor` times those of `start`."""

    def draw(key: Any, shape: Any, dtype: Any = jnp.float32) -> Array:
        return factor * start(key, shape, dtype)

    return draw


class Bottleneck(nn.Module):
    """Convolutions of 1 x 1, twice 3 x 3 and 1 x 1, an activation before each.

    The last kernel begins `last` times as large as others; `residual` adds the input.
    """

    style: Style
    inner: int
    outputs: int
    last: float = 1.0
    residual: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        act, start, dtype = self.style.activation, self.style.start, hidden_dtype()
        layer: Callable[..., Any] = nn.Dense
        if x.shape[-2] >= LEAST_OF_3X3:
            layer = partial(nn.Conv, kernel_size=(3, 3))
        h = nn.Dense(self.inner, kernel_init=start, dtype=dtype)(act(x))
        for number in (1, 2):
            named = {"kernel_init": start, "dtype": dtype, "name": f"middle_{number}"}
            h = layer(self.inner, **named)(act(h))
        # In float32: what is read off here are means and scales, or the stream itself.
        h = nn.Dense(self.outputs, kernel_init=shrunk(start, self.last))(act(h))
        return x + h if self.residual else h


def bottleneck(style: Style, remat: bool, size: Size, outputs: int, **more: Any) -> Any:
    """A bottleneck, kept for the gradient or computed again [Chen et al. 2016]."""
    kind = nn.remat(Bottleneck) if remat else Bottleneck
    return kind(style, size.inner, outputs, **more)


class BottomUp(nn.Module):
    """The activations that posteriors see, `Down.sees` by place, from an image."""

    layout: Layout
    style: Style
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        layout, style = self.layout, self.style
        shape = (style.input_side, style.input_side)
        first = layout.size(layout.side).width
        x = nn.Conv(first, shape, kernel_init=style.start, name="input")(x)
        seen = [] if style.mirrored else [x]
        last = math.sqrt(1 / self._depth)
        for number, each in enumerate(layout.up):
            size, below = layout.size(each.side), each.side // each.rate
            residual = bottleneck(
                style,
                self.remat,
                size,
                size.width,
                last=last,
                residual=True,
                name=f"block_{number}",
            )
            x = residual(x)
            if style.mirrored:
                skip = nn.Dense(
                    size.width, kernel_init=style.start, name=f"skip_{number}"
                )
                seen.append(skip(x))
            if each.rate > 1:
                x = Shrink(
                    style.resampled, style.start, each.rate, layout.size(below).width
                )(x)
            if not style.mirrored:
                seen.append(x)
        return tuple(seen)

    @property
    def _depth(self) -> int:
        """Blocks by whose number the last kernels are scaled: those of the decoder in
        the code of Hazami et al. 2022, those of the encoder in that of Child 2021.
        """
        return len(self.layout.down if self.style.mirrored else self.layout.up)


class BlockMoments(nn.Module):
    """Means and raw scales of a block of latents, and features beside them.

    With `features` 0 there are none.
    """

    style: Style
    size: Size
    latents: int
    features: int = 0
    last: float = 1.0
    remat: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        count, style = 2 * self.latents, self.style
        made = partial(
            bottleneck, style, self.remat, self.size, last=self.last, name="body"
        )
        if style.projected:
            h = made(outputs=self.size.width + self.features)(x)
            features, h = jnp.split(h, [self.features], -1)
            moments = nn.Dense(count, kernel_init=style.start, name="moments")(h)
        else:
            moments, features = jnp.split(
                made(outputs=count + self.features)(x), [count], -1
            )
        mean, raw = jnp.split(moments, 2, -1)
        return mean, raw, features


class Posteriors(nn.Module):
    """Posteriors of all blocks of latents, from their streams and activations."""

    layout: Layout
    style: Style
    remat: bool = False

    def setup(self) -> None:
        layout = self.layout
        self.blocks = [
            BlockMoments(
                self.style,
                layout.size(each.side),
                layout.latents,
                remat=self.remat,
            )
            for each in layout.down
        ]

    def __call__(self, number: int, x: Array, seen: Array) -> tuple[Array, Array]:
        """Mean and raw scale of a block, given its stream x and what it sees."""
        seen = with_lead(seen, x.shape[:-3])
        mean, raw, _ = self.blocks[number](jnp.concatenate([x, seen], -1))
        return mean, raw


class Downward(nn.Module):
    """The generative streams: priors of all blocks, and what follows from latents."""

    layout: Layout
    style: Style
    remat: bool = False

    def setup(self) -> None:
        layout, style, remat = self.layout, self.style, self.remat
        sides = sorted({each.side for each in layout.down})
        last = math.sqrt(1 / len(layout.down))
        sizes = [layout.size(each.side) for each in layout.down]
        self.begin = {
            str(side): self.param(
                f"map_{side}",
                nn.initializers.zeros,
                (side, side, layout.size(side).width),
            )
            for side in sides
            if side <= LARGEST_WITH_BIAS
        }
        self.enlarge = {
            str(number): Enlarge(
                style.resampled, style.start, each.side // each.mixes, size.width
            )
            for number, (each, size) in enumerate(zip(layout.down, sizes, strict=True))
            if each.mixes
        }
        self.priors = [
            BlockMoments(
                style,
                size,
                layout.latents,
                size.width,
                0.0 if style.zero_prior else 1.0,
                remat,
            )
            for size in sizes
        ]
        of_z = shrunk(style.start, last)
        self.project = [nn.Dense(size.width, kernel_init=of_z) for size in sizes]
        self.refine = [
            bottleneck(style, remat, size, size.width, last=last, residual=True)
            for size in sizes
        ]

    def stream(self, number: int, streams: dict[int, Array], lead: tuple) -> Array:
        """The input of a block: the stream of its side, and one that it mixes in.

        `lead` are the axes in front of a map.
        """
        each = self.layout.down[number]
        x = streams.get(each.side)
        if x is None:
            width = self.layout.size(each.side).width
            shape = (each.side, each.side, width)
            x = with_lead(self.begin.get(str(each.side), jnp.zeros(shape)), lead)
        if each.mixes:
            x = x + self.enlarge[str(number)](streams[each.mixes])
        return x

    def prior(self, number: int, x: Array) -> tuple[Array, Array, Array]:
        """Mean and raw scale of a block's prior, and the stream with its features."""
        mean, raw, features = self.priors[number](x)
        return mean, raw, x + features

    def merge(self, number: int, x: Array, z: Array) -> Array:
        """The stream after a block, from that before it and its latents."""
        x = with_lead(x, z.shape[:-3])
        return self.refine[number](x + self.project[number](z))
