"""Hierarchies whose posterior goes down from the top block, as the prior does."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from vaejax.distributions import Normal
from vaejax.inference.latents import (
    Block,
    Keys,
    LatentTerm,
    Loops,
    Source,
    joined,
    latent_term,
)
from vaejax.inference.sources import ALL_BLOCKS, TopBlocks, TopMeans
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.nn.stacked import unstacked
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
        number = len(self.taken)
        term = taken_from(self.source, block, q, p, number, each=number > 0)
        self.taken[block] = term
        return term.z

    def loop(self, names: Sequence[str]) -> Source | None:
        """The source of the next blocks within one loop; None where there is none."""
        source = self.source
        if not isinstance(source, Loops):
            return None
        return source.in_loop(names, len(self.taken))

    def keep(self, names: Sequence[str], terms: LatentTerm) -> None:
        """The terms that a loop has stacked, as those of single blocks."""
        self.taken |= zip(names, unstacked(terms, len(names)), strict=True)

    def from_data(self) -> Terms:
        """The terms of all blocks, from the data upwards."""
        return dict(reversed(self.taken.items()))


def taken_from(
    source: Source,
    block: str,
    q: Distribution | None,
    p: Distribution,
    number: int | Array,
    each: bool,
) -> LatentTerm:
    """The terms of a block at what a source gives."""
    q = p if q is None else q
    z, log_q = source(Block(block, q, p, number, each))
    return latent_term(q, p, z, log_q)


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
        """Read from x the features that `descend` infers latents by."""
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
