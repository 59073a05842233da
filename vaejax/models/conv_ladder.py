"""A ladder of maps of latents, whose blocks all reach the image."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import Given, Source
from vaejax.models.holes import read_input
from vaejax.models.topdown import Blocks, Terms, TopDown, parted
from vaejax.nn.ladder import BlockStyle, FirstMaps, FittedConv, MergeMaps, Stage
from vaejax.types import Array, Batch, Distribution


class ConvLadderVAE(TopDown):
    """p(z_L) prod_i p(z_i | z_>i) p(x | z), over maps of latents.

    The ladder of `addtt/ladder-vae-pytorch`: a deterministic way up, merged on the way
    down with the features of all blocks above, gives each posterior; the prior is read
    off these features. `decode` takes all blocks as one vector, z1 first.
    """

    encoder: nn.Module
    down: nn.Module
    decoder: nn.Module
    prior: nn.Module
    maps: tuple[tuple[int, int, int], ...]
    """Height, width and latents of each block, from the data upwards. Densities of the
    top one are over a vector, so that it may have any prior."""

    def decoded(self) -> tuple[str, ...]:
        return tuple(f"z{i + 1}" for i in range(len(self.maps)))

    def ascend(self, batch: Batch) -> Sequence:
        return self.encoder(batch)

    def descend(
        self, batch: Batch, source: Source, read: Sequence | None
    ) -> tuple[Terms, Distribution]:
        blocks, last = Blocks(source), len(self.maps) - 1
        q = None if read is None else read[last]
        z = blocks.take(f"z{last + 1}", q, self.prior(batch))
        h = self.down(last, z.reshape(*z.shape[:2], *self.maps[last]))
        for i in reversed(range(last)):
            p = self.down.prior(i, h)
            q = None if read is None else self.down.posterior(i, read[i], h)
            z = blocks.take(f"z{i + 1}", q, p)
            h = self.down(i, z, h)
        return blocks.from_data(), self.decoder(h, batch)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        *lower, top = self.maps
        shapes = (*lower, (math.prod(top),))
        blocks = parted(z, dict(zip(self.decoded(), shapes, strict=True)))
        return self.descend(batch, Given(blocks), None)[1]


class ConvLadderEncoder(nn.Module):
    """The way up: maps of features below each block, and q of the top one."""

    first: FirstMaps
    stages: Sequence[Stage]
    head: nn.Module
    reader: nn.Module | None = None

    def __call__(self, batch: Batch) -> tuple:
        h, found = self.first(read_input(self.reader, batch)), []
        for stage in self.stages:
            h = stage(h)
            found.append(h)
        return (*found[:-1], self.head(h.reshape(h.shape[0], -1)))


class MapHead(nn.Module):
    """A diagonal Gaussian over a map as a vector, by a convolution of features.

    Features are a map of these sides, as a vector.
    """

    sides: tuple[int, int]
    latents: int

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        maps = h.reshape(h.shape[0], *self.sides, -1)
        q: Any = gaussian_map(FittedConv(2 * self.latents)(maps))
        return Normal(*(a.reshape(h.shape[0], -1) for a in (q.loc, q.scale)))


class Rung(nn.Module):
    """A block of latents on the way down: its densities, and what it adds."""

    latents: int
    channels: int
    stage: Stage
    block: BlockStyle
    top: bool = False
    skip: bool = True

    def setup(self) -> None:
        self.out = FittedConv(self.channels)
        if not self.top:
            self.of_p = FittedConv(2 * self.latents)
            self.of_q = FittedConv(2 * self.latents)
            self.merge = MergeMaps(self.block)
            self.around = MergeMaps(self.block) if self.skip else None

    def prior(self, h: Array) -> Distribution:
        """p(z_i | z_>i) by the features of the blocks above."""
        return gaussian_map(self.of_p(h))

    def posterior(self, up: Array, h: Array) -> Distribution:
        """q(z_i | x, z_>i) by features of x and those of the blocks above."""
        return gaussian_map(self.of_q(self.merge(up[None], h)))

    def __call__(self, z: Array, h: Array | None = None) -> Array:
        """Features for the blocks below."""
        x = self.out(z)
        if h is not None and self.around is not None:
            x = self.around(x, h)
        return self.stage(x)


class ConvDown(nn.Module):
    """The rungs of a ladder, from the data upwards."""

    rungs: Sequence[Rung]

    def prior(self, block: int, h: Array) -> Distribution:
        return self.rungs[block].prior(h)

    def posterior(self, block: int, up: Array, h: Array) -> Distribution:
        return self.rungs[block].posterior(up, h)

    def __call__(self, block: int, z: Array, h: Array | None = None) -> Array:
        return self.rungs[block](z, h)


def gaussian_map(out: Array) -> Distribution:
    """A diagonal Gaussian over a map; the second half of `out` is log sigma^2."""
    mean, log_variance = jnp.split(out, 2, -1)
    return Normal(mean, jnp.exp(0.5 * log_variance))


class LearnedNormal(nn.Module):
    """p(z) = N(m, diag s^2), both learned, from a standard normal on."""

    latents: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        zeros = nn.initializers.zeros
        mean = self.param("mean", zeros, (self.latents,))
        log_variance = self.param("log_variance", zeros, (self.latents,))
        shape = (batch["x"].shape[0], self.latents)
        scale = jnp.exp(0.5 * log_variance)
        return Normal(*(jnp.broadcast_to(a[None], shape) for a in (mean, scale)))
