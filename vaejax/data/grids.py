"""Grids of known factors that our builders draw, and subsets of them by name.

`sprites/shape=ellipse,scale=0+2+4,orientation=0-39-4` are the sprites of these values:
numbers, names, ranges `FIRST-LAST` and `FIRST-LAST-STEP`, joined by `+`. A factor that
is not named keeps all its values; one with a single value is no factor of the subset.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence

from vaejax.data.spec import Factor
from vaejax.errors import InputError, nearest

_SPRITES = (
    Factor("shape", 3, ("square", "ellipse", "heart")),
    Factor("scale", 6),
    Factor("orientation", 40),
    Factor("x", 32),
    Factor("y", 32),
)
_SQUARES = tuple(
    Factor(f"{axis}_{colour}", 8)
    for colour in ("red", "green", "blue")
    for axis in ("x", "y")
)
GRIDS: Mapping[str, tuple[Factor, ...]] = {
    "sprites": _SPRITES,
    "sprites_colour": _SPRITES,
    "xy_squares": _SQUARES,
}
"""The factors of each of our sets that is drawn; the last one varies fastest."""
LONGEST = 100
"""Letters of a subset in the name of its folder; of a longer one it is a digest."""
Values = tuple[tuple[int, ...], ...]
"""The chosen values of each factor, in ascending order."""


def chosen_values(name: str, subset: str = "") -> Values:
    """The values of each factor of a grid that a subset has.

    Raises:
      InputError: the text names no factors, or values that they have not.
    """
    grid = {factor.name: factor for factor in GRIDS[name]}
    found = {factor.name: tuple(range(factor.size)) for factor in GRIDS[name]}
    given: set[str] = set()
    for part in subset.split(",") if subset else ():
        key, sign, text = part.partition("=")
        if key not in grid or not sign or key in given:
            why = "twice" if key in given else nearest(key, grid)
            raise InputError(
                f"{name}/{subset} names {key or 'nothing'!r}: {why}; write subsets as "
                f"{name}/{example(name)}"
            )
        given.add(key)
        found[key] = listed_values(grid[key], text, f"{name}/{subset}")
    return tuple(found.values())


def listed_values(factor: Factor, text: str, where: str) -> tuple[int, ...]:
    """The values of a factor that a text lists, in ascending order."""
    found: set[int] = set()
    for part in text.split("+"):
        if part in factor.values:
            found.add(factor.values.index(part))
            continue
        ends = part.split("-")
        if not all(end.isdecimal() for end in ends) or len(ends) > 3:
            ends = [str(factor.size)]
        first, last, step = (*map(int, ends), *(int(ends[0]), 1)[len(ends) - 1 :])
        if not first <= last < factor.size or not step:
            names = f", {', '.join(factor.values)}" if factor.values else ""
            raise InputError(
                f"{where}: {factor.name} has no value {part!r}: it has 0 to "
                f"{factor.size - 1}{names}, ranges 0-{factor.size - 1} and, of every "
                f"second one, 0-{factor.size - 1}-2"
            )
        found |= set(range(first, last + 1, step))
    return tuple(sorted(found))


def example(name: str) -> str:
    """A subset of a grid, for messages."""
    first, *_, last = GRIDS[name]
    return f"{first.name}=0+1,{last.name}=0-{last.size - 1}-2"


def plain_subset(name: str, subset: str) -> str:
    """The one text of a subset, however it was written; empty for the whole grid."""
    chosen = zip(GRIDS[name], chosen_values(name, subset), strict=True)
    return ",".join(
        f"{factor.name}={short_list(factor, values)}"
        for factor, values in chosen
        if len(values) < factor.size
    )


def short_list(factor: Factor, values: Sequence[int]) -> str:
    """Values as text: names, a range, or numbers."""
    if factor.values:
        return "+".join(factor.values[value] for value in values)
    steps = {b - a for a, b in itertools.pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        step = steps.pop()
        return f"{values[0]}-{values[-1]}" + (f"-{step}" if step > 1 else "")
    return "+".join(map(str, values))


def folder_name(subset: str) -> str:
    """The name of the folder of a plain subset."""
    if len(subset) <= LONGEST:
        return subset
    return "subset_" + hashlib.blake2b(subset.encode(), digest_size=8).hexdigest()
