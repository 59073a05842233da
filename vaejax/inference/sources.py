"""Sources of latents beyond draws of the posterior: the top of a hierarchy, or means.

In models whose posterior goes down from the top, block 0 is the top one, so that the
first blocks can be those of an example and the others the model's own. The log q(z)
that comes with each block is that of the posterior, wherever z is from.
"""

from collections.abc import Sequence
from typing import NamedTuple

from vaejax.distributions.temperature import cooled
from vaejax.inference.latents import (
    Block,
    Keys,
    Source,
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
        if is_above(block.number, self.blocks):
            return block.drawn(self.keys)
        p = known_prior(block)
        draws = draw_each if depends(p, block) else draw
        z, _ = draws(cooled(p, self.temperature), block.keys(self.keys))
        return z, log_density(block.q, z)

    def in_loop(self, names: Sequence[str], first: int) -> Source | None:
        """Draws of one kind, if they are of one."""
        blocks = all_or_none(names, first, self.blocks)
        return None if blocks is None else self._replace(blocks=blocks)


class TopMeans(NamedTuple):
    """Means of q for the first `blocks` blocks, of p for the others; one "draw"."""

    blocks: int

    def __call__(self, block: Block) -> tuple[Array, Array]:
        if is_above(block.number, self.blocks):
            z = block.q.mean if block.each else block.q.mean[None]
        else:
            p = known_prior(block)
            z = p.mean if depends(p, block) else p.mean[None]
        return z, log_density(block.q, z)

    def in_loop(self, names: Sequence[str], first: int) -> Source | None:
        """Means of one kind, if they are of one."""
        blocks = all_or_none(names, first, self.blocks)
        return None if blocks is None else self._replace(blocks=blocks)


ALL_BLOCKS = 2**31 - 1
"""More blocks than any model has."""


def is_above(number: int | Array, blocks: int) -> bool:
    """Whether a block is among the first; its number may be an array only where all
    are, or none.
    """
    return blocks == ALL_BLOCKS or (blocks > 0 and bool(number < blocks))


def all_or_none(names: Sequence[str], first: int, blocks: int) -> int | None:
    """`ALL_BLOCKS` if blocks from the number `first` on are above, 0 if none is."""
    if first >= blocks:
        return 0
    return ALL_BLOCKS if first + len(names) <= blocks else None


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
