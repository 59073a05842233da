"""Sources of latents beyond draws of the posterior: the top of a hierarchy, or means.

In models whose posterior goes down from the top, block 0 is the top one, so that the
first blocks can be those of an example and the others the model's own. The log q(z)
that comes with each block is that of the posterior, wherever z is from.
"""

from typing import NamedTuple

from vaejax.distributions.temperature import cooled
from vaejax.inference.latents import (
    Block,
    Keys,
    draw,
    draw_each,
    log_density,
    rank_of,
)
from vaejax.types import Array, Distribution


class TopBlocks(NamedTuple):
    """Draws of q for the first `blocks` blocks, of p at a temperature for the others.

    With no blocks this is ancestral sampling. A temperature multiplies the standard
    deviations of p, block by block: 0 gives means, whatever the keys; None is 1.
    """

    keys: Keys
    blocks: int = 0
    temperature: float | Array | None = None

    def __call__(self, block: Block) -> tuple[Array, Array]:
        if block.number < self.blocks:
            return block.drawn(self.keys)
        p = known_prior(block)
        draws = draw_each if depends(p, block) else draw
        z, _ = draws(cooled(p, self.temperature), block.keys(self.keys))
        return z, log_density(block.q, z)


class TopMeans(NamedTuple):
    """Means of q for the first `blocks` blocks, of p for the others; one "draw"."""

    blocks: int

    def __call__(self, block: Block) -> tuple[Array, Array]:
        if block.number < self.blocks:
            z = block.q.mean if block.each else block.q.mean[None]
        else:
            p = known_prior(block)
            z = p.mean if depends(p, block) else p.mean[None]
        return z, log_density(block.q, z)


ALL_BLOCKS = 2**31 - 1
"""More blocks than any model has."""


def known_prior(block: Block) -> Distribution:
    """p; TypeError where it is not known before z is."""
    if block.p is None:
        raise TypeError(
            f"the prior of {block.name} is not known before its posterior is drawn: a "
            "model that is inferred upwards needs its own draw_blocks and from_top"
        )
    return block.p


def depends(p: Distribution, block: Block) -> bool:
    """Whether p has the axis `samples` in front; `each` says so of q."""
    return rank_of(p) > rank_of(block.q) - block.each
