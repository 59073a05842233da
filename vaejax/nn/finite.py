"""Codebooks that are not learned: grids of finite scalars, and of signs.

A channel takes one of a few values, so that a code is the number whose digits they are.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vaejax.nn.codebooks import choice_logits
from vaejax.types import Array

MARGIN = 1e-3
"""Share by which the bound of channels is narrower than their values."""
MOST_TOGETHER = 2**12
"""The most codes among which a soft choice is made at once."""
NO_CHOICE = -1e9
"""Logit of a code that a group of channels does not have."""


@dataclass(frozen=True)
class Grid:
    """Channels of `levels[i]` values each, evenly in [-1, 1] [Mentzer et al. 2023].

    An odd number of values is symmetric; an even one reaches from -1 to 1 - 2 / levels.
    Called with codes `[..., 1]`, it gives their values `[..., channels]`.
    """

    levels: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of codes."""
        return math.prod(self.levels)

    @property
    def _halves(self) -> np.ndarray:
        return np.asarray(self.levels, np.int32) // 2

    @property
    def _places(self) -> np.ndarray:
        """The factor of each digit: the first is the lowest."""
        return np.cumprod((1, *self.levels[:-1])).astype(np.int32)

    def bounded(self, h: Array) -> Array:
        """Numbers between the values of each channel [Mentzer et al. 2023, sec. 3.1].

        tanh(h + shift) half - offset in units of [-1, 1]: about 0 at 0, but of two
        values, whose threshold is at -1.56.
        """
        levels = np.asarray(self.levels, np.float32)
        half = (levels - 1) * (1 - MARGIN) / 2
        offset = np.where(levels % 2 == 1, 0.0, 0.5)
        shift = np.tan(offset / half)
        lead = (1,) * (h.ndim - 1) + (-1,)
        half, offset, shift, halves = (
            jnp.asarray(each, jnp.float32).reshape(lead)
            for each in (half, offset, shift, self._halves)
        )
        return (jnp.tanh(h + shift) * half - offset) / halves

    def rounded(self, bounded: Array) -> Array:
        """The nearest values."""
        halves = self._over(bounded, self._halves)
        return jnp.round(bounded * halves) / halves

    def codes(self, values: Float[Array, "... channels"]) -> Int[Array, "... 1"]:
        """The codes of values."""
        halves = self._over(values, self._halves)
        digits = (jnp.round(values * halves) + halves).astype(jnp.int32)
        return (digits * self._over(digits, self._places)).sum(-1, keepdims=True)

    def __call__(self, codes: Int[Array, "... 1"]) -> Float[Array, "... channels"]:
        levels = np.asarray(self.levels, np.int32)
        digits = codes // self._over(codes, self._places) % self._over(codes, levels)
        halves = self._over(codes, self._halves)
        return (digits - halves) / halves

    def logits(
        self, bounded: Float[Array, "... channels"], softness: float
    ) -> Float[Array, "... factors values"]:
        """Those of the soft choice of a code, see `soft_choices`.

        Distances are in steps from a value of a channel to the next.
        """

        def steps(levels: tuple[int, ...]) -> Array:
            part = Grid(levels)
            values = part(jnp.arange(part.size)[:, None])
            return values * self._over(values, part._halves)

        distances = bounded * self._over(bounded, self._halves)
        return soft_choices(distances, self.levels, steps, softness)

    @staticmethod
    def _over(x: Array, numbers: np.ndarray) -> Array:
        """Numbers of channels with the rank of x."""
        return jnp.asarray(numbers).reshape((1,) * (x.ndim - 1) + (-1,))


@dataclass(frozen=True)
class Signs:
    """Channels that are -1 or 1: codes without a look-up [Yu et al. 2023].

    Called with codes `[..., 1]`, it gives their values `[..., channels]`.
    """

    channels: int

    @property
    def size(self) -> int:
        """Number of codes."""
        return 2**self.channels

    def rounded(self, h: Array) -> Array:
        """The sign of each channel, 1 at 0."""
        return jnp.where(h >= 0, 1.0, -1.0)

    def codes(self, values: Float[Array, "... channels"]) -> Int[Array, "... 1"]:
        """The codes of values: the first channel is the lowest bit."""
        bits = (values > 0).astype(jnp.int32)
        places = (1 << np.arange(self.channels)).astype(np.int32)
        lead = (1,) * (bits.ndim - 1)
        return (bits * places.reshape(*lead, -1)).sum(-1, keepdims=True)

    def __call__(self, codes: Int[Array, "... 1"]) -> Float[Array, "... channels"]:
        shifts = np.arange(self.channels, dtype=np.int32)
        bits = codes >> shifts.reshape((1,) * (codes.ndim - 1) + (-1,)) & 1
        return 2.0 * bits - 1

    def logits(
        self, h: Float[Array, "... channels"], softness: float
    ) -> Float[Array, "... factors values"]:
        """Those of the soft choice of a code, see `soft_choices`."""

        def signs(levels: tuple[int, ...]) -> Array:
            return Signs(len(levels))(jnp.arange(2 ** len(levels))[:, None])

        return soft_choices(h, (2,) * self.channels, signs, softness)


def soft_choices(
    h: Float[Array, "... channels"],
    levels: tuple[int, ...],
    values_of: Callable[[tuple[int, ...]], Float[Array, "values channels"]],
    softness: float,
) -> Float[Array, "... factors values"]:
    """Logits of soft choices of codes.

    Where codes are many, the choices are those of groups of channels, which are
    independent: the entropy of each position's choice is exact, that of all positions
    together bounded from above by the sum over groups.

    Args:
      h: what is near codes.
      levels: number of values of each channel.
      values_of: the values of all codes of channels with such levels.
      softness: squared distance at which a choice is unclear.
    """
    groups = groups_of(levels)
    most = max(map(math.prod, groups))

    def logits(x: Array, group: tuple[int, ...]) -> Array:
        found = choice_logits(x, values_of(group), softness)
        lacking = [(0, 0)] * (x.ndim - 1) + [(0, most - math.prod(group))]
        return jnp.pad(found, lacking, constant_values=NO_CHOICE)

    parts = jnp.split(h, np.cumsum([len(group) for group in groups])[:-1], -1)
    return jnp.stack([logits(*each) for each in zip(parts, groups, strict=True)], -2)


def groups_of(levels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The levels in as few runs of at most `MOST_TOGETHER` codes as there can be.

    Of such runs those whose largest has the fewest codes. A channel of more values is
    alone.
    """

    def runs(most: int) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for count in levels:
            if found and math.prod(found[-1]) * count <= most:
                found[-1] = (*found[-1], count)
            else:
                found.append((count,))
        return found

    ends = range(len(levels) + 1)
    sizes = {math.prod(levels[i:j]) for j in ends for i in range(j)}
    fewest = len(runs(MOST_TOGETHER))
    return next(g for most in sorted(sizes) if len(g := runs(most)) == fewest)
