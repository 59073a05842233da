"""Deep hierarchies of latent maps, inferred from the top [Child 2021]."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import Keys, Source, split_blocks
from vaejax.inference.sources import TopBlocks
from vaejax.models.heads import Scale
from vaejax.models.topdown import Blocks, Terms, TopDown
from vaejax.nn.deep import BottomUp, Downward, Posteriors, Style
from vaejax.nn.layout import Layout
from vaejax.types import Array, Batch, Distribution

Take = Callable[[int, Array, Distribution], Array]
"""Latents `[samples, batch, side, side, channels]` of a block, from its number (0 is
the top), the stream that its posterior reads and its prior."""


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

    def setup(self) -> None:
        given = self.layout, self.style, self.remat
        self.upward, self.posteriors = BottomUp(*given), Posteriors(*given)

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


class DeepDecoder(nn.Module):
    """Priors of all blocks of latents, and p(x | z) of the last stream."""

    layout: Layout
    style: Style
    scale: Scale
    channels: int
    likelihood: nn.Module
    remat: bool = False

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
        for number, each in enumerate(self.layout.down):
            x = self.downward.stream(number, streams, lead)
            mean, raw, after = self.downward.prior(number, x)
            z = take(number, x, Normal(mean, self.scale(raw)))
            streams[each.side], lead = (
                self.downward.merge(number, after, z),
                z.shape[:2],
            )
        return self._likelihood(streams[self.layout.side], batch)

    def _likelihood(self, x: Array, batch: Batch) -> Distribution:
        """Reads the last stream, without what padding added."""
        if self.style.scaled_output:
            shape = (1,) * (x.ndim - 1) + self.gain.shape
            x = x * self.gain.reshape(shape) + self.bias.reshape(shape)
        height, width = batch["x"].shape[1:3]
        (top, _), (left, _) = margins((height, width), self.layout.side)
        shown = x[..., top : top + height, left : left + width, :]
        return self.likelihood(self.output(shown), batch)


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
        blocks, names = Blocks(source), tuple(reversed(self.shapes))

        def take(number: int, x: Array, p: Distribution) -> Array:
            q = None if read is None else self.encoder.posterior(number, x, read)
            return blocks.take(names[number], q, p)

        px = self.decoder(batch, take)
        return blocks.from_data(), px

    def decode(self, z: Array, batch: Batch) -> Distribution:
        parts = [*reversed(split_blocks(z, self.shapes).values())]
        return self.decoder(batch, lambda number, x, p: parts[number])

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
