"""Bounds on the speed of a step and the size of its batch, by arithmetic alone.

The roofline [Williams et al. 2009]: a step takes at least as long as its
FLOPs at the chip's peak, as its bytes at the bandwidth of the memory, and as what it
sends over all links of the chip. Real steps are slower: chips at the border of a slice
without wrap-around use fewer links, and only matrix products run at the peak.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vaejax.aot.chips import Chip


class Times(NamedTuple):
    """Least seconds of a step, by what takes them."""

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        return max(self)

    @property
    def bound(self) -> str:
        """The bottleneck: compute, memory or network."""
        return self._fields[self.index(max(self))]


def times(chip: Chip, flops: float, accessed: float, sent: float) -> Times:
    """The least time for FLOPs, bytes accessed and bytes sent, each of one device."""
    return Times(flops / chip.flops, accessed / chip.bandwidth, sent / chip.network)


class Need(NamedTuple):
    """Memory that a device needs for its part of a batch."""

    part: int
    """Examples of the batch on one device."""
    needed: float
    """Bytes."""
    fits: bool


def predicted(known: Sequence[Need], hint: Need | None, room: float) -> float:
    """Examples for each device that fill `room` bytes, on a line through two points.

    They are the largest that fits and the least that does not; where one is lacking,
    the hint or else the origin. Infinity where memory does not grow with the batch.
    """
    points = {n.part: n.needed for n in (*bracket(known), hint) if n is not None}
    (part, needed), *others = points.items()
    other, less = others[0] if others else (0, 0.0)
    if math.isinf(max(needed, less)):  # all that is known is that it does not fit
        return (part + other) / 2
    slope = (needed - less) / (part - other)
    return part + (room - needed) / slope if slope > 0 else math.inf


def bracket(known: Sequence[Need]) -> tuple[Need | None, Need | None]:
    """The largest that fits, and the least that does not."""
    return (
        max((n for n in known if n.fits), default=None),
        min((n for n in known if not n.fits), default=None),
    )


def largest(
    need: Callable[[int], Need],
    first: Need,
    room: float,
    cap: int,
    hint: Need | None = None,
    tries: int = 5,
) -> tuple[int, list[Need]]:
    """The largest part of a batch that fits, confirmed by `need`, and what was asked.

    Memory is nearly affine in the batch: each try goes where the line through what is
    known fills 97 % of the room. Beyond 90 % nothing is tried: there the compiler
    computes again what it does not keep, and a batch more costs time instead. 0 where
    nothing that was tried fits.

    Args:
      need: what a part of a batch needs; it compiles, so it is called at most `tries`
        times.
      first: what is known already.
      room: bytes of a device's memory.
      cap: the largest part that the data has a batch for.
      hint: what another part needs on a device alone, which confirms nothing.
      tries: calls of `need` at most.
    """
    known = [first]
    for _ in range(tries):
        best, worst = bracket(known)
        low = best.part if best else 0
        high = min(cap, worst.part - 1 if worst else cap)
        goal = min(predicted(known, hint, 0.97 * room), high)
        goal = max(int(goal), min(low + 1, high), 1)
        full = best and (best.needed > 0.9 * room or goal < 1.05 * low)
        if low >= high or full:
            break
        known.append(need(goal))
    best, _ = bracket(known)
    return (best.part if best else 0), known
