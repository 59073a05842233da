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

from vaejax.nn.deep_styles import Style
from vaejax.nn.layers import hidden_dtype, recomputes
from vaejax.nn.layout import Layout, Size, Up
from vaejax.nn.resampling import Enlarge, Shrink, with_lead
from vaejax.nn.stacked import (
    loop_over_blocks,
    stack_params,
    unstacked,
    up_runs,
    with_params,
)
from vaejax.nn.starts import shrunk
from vaejax.types import Array

LEAST_OF_3X3 = 3
"""Least side of maps on which convolutions are of 3 x 3; on others it is 1 x 1."""
LARGEST_WITH_BIAS = 64
"""Largest side that has a learned map of its own [Child 2021: `no_bias_above`]."""


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


def residual_block(
    x: Array, block: Callable[..., Array], skip: Callable[..., Array] | None = None
) -> tuple[Array, Array]:
    """The map after a block of the encoder, and what a posterior sees of it."""
    x = block(x)
    return x, skip(x) if skip else x


class BottomUp(nn.Module):
    """The activations that posteriors see, `Down.sees` by place, from an image."""

    layout: Layout
    style: Style
    remat: bool = False
    scan: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, ...]:
        layout, style, remat = self.layout, self.style, recomputes(self, self.remat)
        shape = (style.input_side, style.input_side)
        first = layout.size(layout.side).width
        x = nn.Conv(first, shape, kernel_init=style.start, name="input")(x)
        seen = [] if style.mirrored else [x]
        for numbers in up_runs(layout, self.scan and not self.is_initializing()):
            blocks = [
                self._layers(layout.up[n], remat, block=f"block_{n}", skip=f"skip_{n}")
                for n in numbers
            ]
            if len(numbers) > 1:
                x, found = self._together(layout.up[numbers[0]], blocks, x)
                seen += found
                continue
            each, (layers,) = layout.up[numbers[0]], blocks
            x, read = residual_block(x, *layers)
            if each.rate > 1:
                width = layout.size(each.side // each.rate).width
                x = Shrink(style.resampled, style.start, each.rate, width)(x)
            seen.append(read if style.mirrored else x)
        return tuple(seen)

    def _layers(self, each: Up, remat: bool, **names: str) -> list[Any]:
        """The layers of a block: bound by these names, or unbound without any."""
        style, size = self.style, self.layout.size(each.side)

        def named(part: str) -> dict[str, Any]:
            return {"name": names[part]} if names else {"parent": None}

        last = math.sqrt(1 / self._depth)
        more = {"last": last, "residual": True, **named("block")}
        layers = [bottleneck(style, remat, size, size.width, **more)]
        if style.mirrored:
            made = nn.Dense(size.width, kernel_init=style.start, **named("skip"))
            layers.append(made)
        return layers

    def _together(
        self, each: Up, blocks: list[list[Any]], x: Array
    ) -> tuple[Array, list[Array]]:
        """The map after equal blocks, and the activations to see, by a loop."""
        layers, mirrored = self._layers(each, remat=False), self.style.mirrored

        def body(x: Array, params: Any) -> tuple[Array, Array | None]:
            x, read = residual_block(x, *with_params(layers, params))
            return x, read if mirrored else None

        x, found = loop_over_blocks(body, x, stack_params(blocks), self.remat)
        # Where blocks are not mirrored, none but the last of a side is ever seen.
        return x, unstacked(found, len(blocks)) if mirrored else [x] * len(blocks)

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
        self.blocks = [
            self._moments(n, self.remat) for n in range(len(self.layout.down))
        ]

    def _moments(self, number: int, remat: bool, **more: Any) -> BlockMoments:
        layout = self.layout
        size = layout.size(layout.down[number].side)
        return BlockMoments(self.style, size, layout.latents, remat=remat, **more)

    def __call__(self, number: int, x: Array, seen: Array) -> tuple[Array, Array]:
        """Mean and raw scale of a block, given its stream x and what it sees."""
        return posterior_moments(self.blocks[number], x, seen)

    def equal_blocks(self, numbers: range) -> tuple[tuple[BlockMoments], Any]:
        """The (unbound) layers of equal blocks, and the parameters of all of them."""
        layers = (self._moments(numbers[0], remat=False, parent=None),)
        return layers, stack_params([self.blocks[n]] for n in numbers)


def posterior_moments(
    moments: Callable[..., Any], x: Array, seen: Array
) -> tuple[Array, Array]:
    """Mean and raw scale of a posterior, from the stream x and an activation."""
    seen = with_lead(seen, x.shape[:-3])
    mean, raw, _ = moments(jnp.concatenate([x, seen], -1))
    return mean, raw


class Generative(NamedTuple):
    """The layers of a block of the generative stream."""

    prior: Callable[..., Any]
    project: Callable[..., Any]
    refine: Callable[..., Any]

    def moments(self, x: Array) -> tuple[Array, Array, Array]:
        """Mean and raw scale of the prior, and the stream with its features."""
        mean, raw, features = self.prior(x)
        return mean, raw, x + features

    def merge(self, x: Array, z: Array) -> Array:
        """The stream after a block, from that with its features and its latents."""
        x = with_lead(x, z.shape[:-3])
        return self.refine(x + self.project(z))


class Downward(nn.Module):
    """The generative streams: priors of all blocks, and what follows from latents."""

    layout: Layout
    style: Style
    remat: bool = False

    def setup(self) -> None:
        layout, style = self.layout, self.style
        sides = sorted({each.side for each in layout.down})
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
        numbers = range(len(layout.down))
        remat = recomputes(self, self.remat)
        made = [self._layers(number, remat) for number in numbers]
        self.priors, self.project, self.refine = map(list, zip(*made, strict=True))

    def _layers(self, number: int, remat: bool, **more: Any) -> Generative:
        layout, style = self.layout, self.style
        size = layout.size(layout.down[number].side)
        last, least = math.sqrt(1 / len(layout.down)), 0.0 if style.zero_prior else 1.0
        shape = style, size, layout.latents, size.width, least, remat
        of_z = shrunk(style.start, last)
        ends = {"last": last, "residual": True, **more}
        return Generative(
            BlockMoments(*shape, **more),
            nn.Dense(size.width, kernel_init=of_z, **more),
            bottleneck(style, remat, size, size.width, **ends),
        )

    def block(self, number: int) -> Generative:
        """The layers of a block."""
        return Generative(
            self.priors[number], self.project[number], self.refine[number]
        )

    def equal_blocks(self, numbers: range) -> tuple[Generative, Any]:
        """The (unbound) layers of equal blocks, and the parameters of all of them."""
        layers = self._layers(numbers[0], remat=False, parent=None)
        return layers, stack_params(self.block(n) for n in numbers)

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
