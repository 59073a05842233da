"""Deep hierarchies of latent maps, inferred from the top [Child 2021]."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import Keys, LatentTerm, Source, split_blocks
from vaejax.inference.sources import TopBlocks
from vaejax.models.heads import Scale
from vaejax.models.topdown import Blocks, Terms, TopDown, taken_from
from vaejax.nn.deep import (
    BottomUp,
    Downward,
    Generative,
    Posteriors,
    posterior_moments,
)
from vaejax.nn.deep_styles import Style
from vaejax.nn.layout import Layout
from vaejax.nn.stacked import down_runs, loop_over_blocks, with_params
from vaejax.types import Array, Batch, Distribution


class BlockLoop(NamedTuple):
    """Latents of equal blocks that one loop goes through."""

    each: Any
    """Arrays with an entry for each block along their leading axis."""
    step: Callable[[Any, Array, Distribution], tuple[Array, Any]]
    """Latents of a block and what is kept of it, from what belongs to it, the stream
    and the prior."""
    keep: Callable[[Any], None]
    """Takes what was kept of all of them."""


@runtime_checkable
class Take(Protocol):
    """Gives a decoder its latents, block after block from the top (number 0)."""

    def __call__(self, number: int, x: Array, p: Distribution) -> Array:
        """Latents `[samples, batch, side, side, channels]` of a block, from the stream
        that its posterior reads and its prior.
        """
        ...

    def loop(self, numbers: range) -> BlockLoop | None:
        """Latents of equal blocks; None where these have to be taken one by one."""
        ...


class Units(NamedTuple):
    """The encoder's input, from pixels x in [0, 1]: (x - shift) * scale."""

    shift: float = 0.5
    scale: float = 2.0


class DeepEncoder(nn.Module):
    """Activations of an image, and the posteriors of all blocks of latents.

    Images smaller than the layout's side are padded by zeros, evenly.
    """

    layout: Layout
    style: Style
    scale: Scale
    units: Units = Units()
    remat: bool = False
    scan: bool = False

    def setup(self) -> None:
        given = self.layout, self.style, self.remat
        self.upward = BottomUp(*given, self.scan)
        self.posteriors = Posteriors(*given)

    def __call__(self, batch: Batch) -> tuple[Array, ...]:
        x = (batch["x"] - self.units.shift) * self.units.scale
        edges = margins(x.shape[1:3], self.layout.side)
        return self.upward(jnp.pad(x, ((0, 0), *edges, (0, 0))))

    def posterior(
        self, number: int, stream: Array, activations: tuple[Array, ...]
    ) -> Any:
        """q(z | x, blocks above) of a block: a Gaussian."""
        seen = activations[self.layout.down[number].sees]
        mean, raw = self.posteriors(number, stream, seen)
        return Normal(mean, self.scale(raw))

    def equal_posteriors(
        self, numbers: range, activations: tuple[Array, ...]
    ) -> tuple[Any, Callable[[Any, Array], Any]]:
        """The arrays of each of equal blocks, and q given these and the stream."""
        layers, params = self.posteriors.equal_blocks(numbers)
        places = [self.layout.down[number].sees for number in numbers]
        several, scale = len(set(places)) > 1, self.scale
        seen = activations[places[0]]
        if several:
            seen = jnp.stack([activations[place] for place in places])

        def posterior(each: Any, stream: Array) -> Any:
            params, own = each
            (moments,) = with_params(layers, params)
            mean, raw = posterior_moments(moments, stream, own if several else seen)
            return Normal(mean, scale(raw))

        return (params, seen if several else None), posterior


class DeepDecoder(nn.Module):
    """Priors of all blocks of latents, and p(x | z) of the last stream."""

    layout: Layout
    style: Style
    scale: Scale
    channels: int
    likelihood: nn.Module
    remat: bool = False
    scan: bool = False

    def setup(self) -> None:
        self.downward = Downward(self.layout, self.style, self.remat)
        self.output = nn.Dense(self.channels, kernel_init=self.style.start)
        if self.style.scaled_output:
            shape = (self.layout.size(self.layout.side).width,)
            self.gain = self.param("gain", nn.initializers.ones, shape)
            self.bias = self.param("bias", nn.initializers.zeros, shape)

    def __call__(self, batch: Batch, take: Take) -> Distribution:
        """p(x | z) at the latents that `take` gives, block after block."""
        streams: dict[int, Array] = {}
        lead: tuple[int, ...] = (batch["x"].shape[0],)
        scan = self.scan and not self.is_initializing()
        for numbers in down_runs(self.layout, scan):
            side = self.layout.down[numbers[0]].side
            loop = take.loop(numbers) if len(numbers) > 1 else None
            if loop:
                x = self.downward.stream(numbers[0], streams, lead)
                streams[side] = self._together(numbers, x, loop)
                continue
            for number in numbers:
                x = self.downward.stream(number, streams, lead)
                streams[side], lead = self._alone(number, x, take)
        return self._likelihood(streams[self.layout.side], batch)

    def _alone(self, number: int, x: Array, take: Take) -> tuple[Array, tuple]:
        """The stream after a block, and the axes in front of its maps."""
        block = self.downward.block(number)
        mean, raw, after = block.moments(x)
        z = take(number, x, Normal(mean, self.scale(raw)))
        return block.merge(after, z), z.shape[:2]

    def _together(self, numbers: range, x: Array, loop: BlockLoop) -> Array:
        """The stream after equal blocks, by a loop."""
        (layers, params), scale = self.downward.equal_blocks(numbers), self.scale

        def body(x: Array, each: Any) -> tuple[Array, Any]:
            params, given = each
            block = Generative(*with_params(layers, params))
            mean, raw, after = block.moments(x)
            z, kept = loop.step(given, x, Normal(mean, scale(raw)))
            return block.merge(after, z), kept

        x, kept = loop_over_blocks(body, x, (params, loop.each), self.remat)
        loop.keep(kept)
        return x

    def _likelihood(self, x: Array, batch: Batch) -> Distribution:
        """Reads the last stream, without what padding added."""
        if self.style.scaled_output:
            shape = (1,) * (x.ndim - 1) + self.gain.shape
            x = x * self.gain.reshape(shape) + self.bias.reshape(shape)
        height, width = batch["x"].shape[1:3]
        (top, _), (left, _) = margins((height, width), self.layout.side)
        shown = x[..., top : top + height, left : left + width, :]
        return self.likelihood(self.output(shown), batch)


class Taken(NamedTuple):
    """Latents from the source of some blocks, and their posteriors if x was read."""

    blocks: Blocks
    names: tuple[str, ...]
    """Names of all blocks, from the top."""
    encoder: DeepEncoder
    read: tuple[Array, ...] | None

    def __call__(self, number: int, x: Array, p: Distribution) -> Array:
        read = self.read
        q = None if read is None else self.encoder.posterior(number, x, read)
        return self.blocks.take(self.names[number], q, p)

    def loop(self, numbers: range) -> BlockLoop | None:
        names = self.names[numbers.start : numbers.stop]
        source = self.blocks.loop(names)
        if source is None:
            return None
        own = posterior = None
        if self.read is not None:
            own, posterior = self.encoder.equal_posteriors(numbers, self.read)

        def step(each: Any, x: Array, p: Distribution) -> tuple[Array, LatentTerm]:
            number, own = each
            q = posterior(own, x) if posterior else None
            term = taken_from(source, "a block in a loop", q, p, number, each=True)
            return term.z, term

        def keep(terms: LatentTerm) -> None:
            self.blocks.keep(names, terms)

        return BlockLoop((jnp.arange(numbers.start, numbers.stop), own), step, keep)


class Parts(NamedTuple):
    """Given latents of all blocks, from the top."""

    values: list[Array]

    def __call__(self, number: int, x: Array, p: Distribution) -> Array:
        return self.values[number]

    def loop(self, numbers: range) -> BlockLoop:
        values = jnp.stack([self.values[number] for number in numbers])
        return BlockLoop(values, lambda z, x, p: (z, None), lambda kept: None)


class DeepVAE(TopDown):
    """p(z_L) p(z_L-1 | z_L) ... p(x | z), whose priors and posteriors read streams.

    [Child 2021; Hazami et al. 2022]. Blocks of latents are maps; x depends on all of
    them.
    """

    encoder: DeepEncoder
    decoder: DeepDecoder

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shapes of all blocks of latents, from the data upwards."""
        return block_shapes(self.decoder.layout)

    def decoded(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    def ascend(self, batch: Batch) -> tuple[Array, ...]:
        return self.encoder(batch)

    def descend(
        self, batch: Batch, source: Source, read: tuple[Array, ...] | None
    ) -> tuple[Terms, Distribution]:
        blocks = Blocks(source)
        names = tuple(reversed(self.shapes))
        px = self.decoder(batch, Taken(blocks, names, self.encoder, read))
        return blocks.from_data(), px

    def decode(self, z: Array, batch: Batch) -> Distribution:
        parts = [*reversed(split_blocks(z, self.shapes).values())]
        return self.decoder(batch, Parts(parts))

    def generate(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Distribution:
        return self.descend(batch, TopBlocks(keys, 0, temperature), None)[1]


def block_shapes(layout: Layout) -> dict[str, tuple[int, int, int]]:
    """The shape of each block of latents by its name, `z1` next to the data."""
    count = len(layout.down)
    shapes = {f"z{count - n}": shape for n, shape in enumerate(layout.shapes)}
    return dict(reversed(shapes.items()))


def margins(sides: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    """The padding before and after each axis that makes an image a square."""
    lacking = [side - each for each in sides]
    return [(each // 2, each - each // 2) for each in lacking]
