"""Hierarchies whose posterior goes down from the top block, as the prior does."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import (
    Keys,
    LatentTerm,
    Source,
    latent_term,
)
from vaejax.inference.sources import ALL_BLOCKS, TopBlocks, TopMeans
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.types import Array, Batch, Distribution

Terms = Mapping[str, LatentTerm]


class Blocks:
    """Takes blocks of latents from a source, from the top down, and keeps their terms.

    `q` is None where there is no x to infer from: the source then has p twice.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.taken: dict[str, LatentTerm] = {}

    def take(self, block: str, q: Distribution | None, p: Distribution) -> Array:
        """Latents `[samples, batch, ...]` of the next block below."""
        q, number = p if q is None else q, len(self.taken)
        z, log_q = self.source(block, q, p, number=number, each=number > 0)
        self.taken[block] = latent_term(q, p, z, log_q)
        return z

    def from_data(self) -> Terms:
        """The terms of all blocks, from the data upwards."""
        return dict(reversed(self.taken.items()))


class TopDown(LatentModel):
    """p(z_L) ... p(z_1 | z_>1) p(x | z), inferred by q(z_L | x) ... q(z_1 | x, z_>1).

    Given the blocks above it, each block has a prior and a posterior, so that every KL
    term has a closed form if its pair of densities has one. Blocks are called z1, next
    to the data, to zL. A concrete model says how x is read, `ascend`, and how the
    blocks follow each other, `descend`.

    `decode` takes all blocks that x depends on as one vector, z1 first. `encode` is
    Gaussian over that vector: its means are the chain of means, where the posterior of
    each block is that at the means of those above it; its scales are those posteriors'.
    """

    def ascend(self, batch: Batch) -> Any:
        """What `descend` needs of x to infer latents."""
        raise NotImplementedError

    def descend(
        self, batch: Batch, source: Source, read: Any
    ) -> tuple[Terms, Distribution]:
        """The terms of all blocks, from the data upwards, and p(x | z).

        Args:
          batch: what is conditioned on, and as many examples.
          source: of the latents.
          read: by `ascend`, or None: then latents have no posterior but their prior.
        """
        raise NotImplementedError

    def decoded(self) -> tuple[str, ...]:
        """The blocks that x depends on, from the data upwards."""
        raise NotImplementedError

    def terms(self, batch: Batch, source: Source) -> Inference:
        latents, px = self.descend(batch, source, self.ascend(batch))
        return Inference(log_observed(px, batch), latents, px)

    def encode(self, batch: Batch) -> Distribution:
        taken, _ = self.descend(batch, TopMeans(ALL_BLOCKS), self.ascend(batch))
        blocks: list[Any] = [taken[name].q for name in self.decoded()]
        means = [q.mean.reshape(1, batch["x"].shape[0], -1) for q in blocks]
        scales = [
            jnp.sqrt(q.variance).reshape(m.shape)
            for q, m in zip(blocks, means, strict=True)
        ]
        return Normal(*(jnp.concatenate(a, -1)[0] for a in (means, scales)))

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Array:
        blocks = self.draw_blocks(batch, keys, temperature)
        return joined([blocks[name] for name in self.decoded()])

    def draw_blocks(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> dict[str, Array]:
        taken, _ = self.descend(batch, TopBlocks(keys, 0, temperature), None)
        return {name: term.z for name, term in taken.items()}


def joined(blocks: Sequence[Array]) -> Array:
    """One vector `[samples, batch, latents]` of blocks of any shape."""
    return jnp.concatenate([z.reshape(*z.shape[:2], -1) for z in blocks], -1)


def parted(z: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The blocks that `joined` made one vector of, by their shapes in that order."""
    sizes = [math.prod(axes) for axes in shapes.values()]
    parts = jnp.split(z, list(itertools.accumulate(sizes))[:-1], -1)
    return {
        name: part.reshape(*z.shape[:-1], *axes)
        for (name, axes), part in zip(shapes.items(), parts, strict=True)
    }
