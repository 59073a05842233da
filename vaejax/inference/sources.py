"""Sources of latents beyond draws of the posterior: the top of a hierarchy, or means.

In models whose posterior goes down from the top, block 0 is the top one, so that the
first blocks can be those of an example and the others the model's own. The log q(z)
that comes with each block is that of the posterior, wherever z is from.
"""

from typing import NamedTuple

from vaejax.distributions.temperature import cooled
from vaejax.inference.latents import (
    Keys,
    draw,
    draw_each,
    fold_each,
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

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        keys = fold_each(self.keys, number) if number else self.keys
        if number < self.blocks:
            return draw_each(q, keys) if each else draw(q, keys)
        p = known_prior(p, block)
        draws = draw_each if depends(p, q, each) else draw
        z, _ = draws(cooled(p, self.temperature), keys)
        return z, log_density(q, z)


class TopMeans(NamedTuple):
    """Means of q for the first `blocks` blocks, of p for the others; one "draw"."""

    blocks: int

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        if number < self.blocks:
            z = q.mean if each else q.mean[None]
        else:
            p = known_prior(p, block)
            z = p.mean if depends(p, q, each) else p.mean[None]
        return z, log_density(q, z)


ALL_BLOCKS = 2**31 - 1
"""More blocks than any model has."""


def known_prior(p: Distribution | None, block: str) -> Distribution:
    """p; TypeError where it is not known before z is."""
    if p is None:
        raise TypeError(
            f"the prior of {block} is not known before its posterior is drawn: a model "
            "that is inferred upwards needs its own draw_blocks and from_top"
        )
    return p


def depends(p: Distribution, q: Distribution, each: bool) -> bool:
    """Whether p has the axis `samples` in front; `each` says so of q."""
    return rank_of(p) > rank_of(q) - each
