"""Deep hierarchies of latent maps, inferred from the top [Child 2021].

The latents of all blocks together are flat, from the top downwards, where `encode`,
`decode` and `draw_prior` give and take them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import FromPosterior, Keys, Source, latent_term
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.models.heads import Scale
from vaejax.nn.deep import BottomUp, Posteriors, Style, TopDown
from vaejax.nn.layout import Layout
from vaejax.types import Array, Batch, Distribution

Take = Callable[[int, Array, Distribution], Array]
"""Latents `[samples, batch, side, side, channels]` of a block, from its number (0 is
the top), the stream that its posterior reads and its prior."""


class Units(NamedTuple):
    """What the encoder sees of pixels in [0, 1]: (x - shift) * scale."""

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
        self.downward = TopDown(self.layout, self.style, self.remat)
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


class DeepVAE(LatentModel):
    """p(z_1) p(z_2 | z_1) ... p(x | z) with q(z_1 | x) q(z_2 | z_1, x) ...

    [Child 2021; Hazami et al. 2022]. Blocks are drawn from the top, so
    that all KL terms are analytic; in `Inference.latents` they stand from the data
    upwards, as those of other models: `z1` is the last block that is drawn.
    """

    encoder: DeepEncoder
    decoder: DeepDecoder

    @property
    def layout(self) -> Layout:
        """The blocks of encoder and decoder."""
        return self.decoder.layout

    def terms(self, batch: Batch, source: Source) -> Inference:
        activations, found = self.encoder(batch), {}

        def take(number: int, x: Array, p: Distribution) -> Array:
            q = self.encoder.posterior(number, x, activations)
            name = block_name(self.layout, number)
            z, log_q = source(name, q, p, number=number, each=number > 0)
            found[name] = latent_term(q, p, z, log_q)
            return z

        px = self.decoder(batch, take)
        latents = dict(reversed(found.items()))
        return Inference(log_observed(px, batch), latents, px)

    def encode(self, batch: Batch) -> Distribution:
        """q of each block, given the means of those above it: flat."""
        activations, found = self.encoder(batch), []

        def take(number: int, x: Array, p: Distribution) -> Array:
            q = self.encoder.posterior(number, x, activations)
            mean, scale = (a.reshape(1, *a.shape[-4:]) for a in (q.loc, q.scale))
            found.append((mean, scale))
            return mean

        self.decoder(batch, take)
        means, scales = (flattened_blocks(each)[0] for each in zip(*found, strict=True))
        return Normal(means, scales)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        blocks = split_blocks(z, self.layout)
        return self.decoder(batch, lambda number, x, p: blocks[number])

    def draw_prior(self, batch: Batch, keys: Keys) -> Array:
        return self._ancestral(batch, keys)[1]

    def generate(self, batch: Batch, keys: Keys) -> Distribution:
        return self._ancestral(batch, keys)[0]

    def _ancestral(self, batch: Batch, keys: Keys) -> tuple[Distribution, Array]:
        """p(x | z) at latents of the prior, and these."""
        found, draws = [], FromPosterior(keys)

        def take(number: int, x: Array, p: Distribution) -> Array:
            name = block_name(self.layout, number)
            z, _ = draws(name, p, number=number, each=number > 0)
            found.append(z)
            return z

        px = self.decoder(batch, take)
        return px, flattened_blocks(found)


def block_name(layout: Layout, number: int) -> str:
    """The name of a block, by its number from the top."""
    return f"z{len(layout.down) - number}"


def flattened_blocks(blocks: list[Array] | tuple[Array, ...]) -> Array:
    """Maps `[samples, batch, side, side, channels]` as `[samples, batch, latents]`."""
    return jnp.concatenate([z.reshape(*z.shape[:2], -1) for z in blocks], -1)


def split_blocks(z: Array, layout: Layout) -> list[Array]:
    """The inverse of `flattened_blocks`."""
    found, start = [], 0
    for shape in layout.shapes:
        stop = start + math.prod(shape)
        found.append(z[..., start:stop].reshape(*z.shape[:2], *shape))
        start = stop
    return found


def margins(sides: tuple[int, ...], side: int) -> list[tuple[int, int]]:
    """What is added before and after each axis of an image to make it a square."""
    lacking = [side - each for each in sides]
    return [(each // 2, each - each // 2) for each in lacking]
