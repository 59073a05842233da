"""Learning curves of several runs in the same panels."""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from vaejax.errors import InputError
from vaejax.metrics.quantities import Quantities, unit_of
from vaejax.plots.frame import Picture, panels
from vaejax.plots.terms import (
    Curve,
    Lines,
    late_limits,
    of_one_player,
    telling,
    terms_of,
)

Rows = Sequence[Mapping[str, Any]]


def colours(count: int) -> list[str]:
    """A colour for each of several runs, as `#rrggbb`."""
    if count <= 10:
        return [to_hex(colormaps["tab10"](i)) for i in range(count)]
    return [to_hex(colormaps["turbo"](i / (count - 1))) for i in range(count)]


def overlaid(
    groups: Sequence[Sequence[Rows]],
    quantities: Quantities = MappingProxyType({}),
    columns: int | None = None,
) -> Picture:
    """A panel for each term: held-out values solid, training dashed.

    Of a group of several runs the mean is drawn, and a band of one standard deviation
    over the runs (n - 1), at the steps that all of them have. A term is drawn of all
    groups that have it where it says something in one of their runs. A player's name is
    left out where a run has one player, and where the term is measured on held-out
    data.

    Args:
      groups: rows of `metrics.jsonl` of each run of each group; group i has the colour
        `colours(len(groups))[i]`.
      quantities: what the numbers are, which orders the panels and gives units.
      columns: panels of a row; by default 3, or 2 where there are 4.

    Raises:
      InputError: not one run has rows.
    """
    found = [[comparable(rows, quantities) for rows in runs if rows] for runs in groups]
    if not any(found):
        raise InputError("there are no metrics to draw")
    told = (name for runs in found for _, names in runs for name in names)
    names = list(dict.fromkeys(told))
    palette = colours(len(groups))

    def draw(axes: Axes, i: int) -> None:
        drawn = {}
        for number, runs in enumerate(found):
            lines = [terms[names[i]] for terms, _ in runs if names[i] in terms]
            for split, (line, deviation) in means(lines).items():
                drawn[f"{number} {split}"] = line
                plot(axes, line, palette[number], split)
                band(axes, line, deviation, palette[number])
        unit = unit_of(quantities, names[i].rpartition(": ")[2])
        finish(axes, names[i], drawn, unit)

    columns = columns or (2 if len(names) == 4 else 3)
    return panels(len(names), "terms over steps", draw, columns)


def means(runs: Sequence[Lines]) -> dict[str, tuple[Curve, np.ndarray]]:
    """Mean and deviation of a term over runs, of each split that all of them have."""
    splits = [
        split for split in (runs[0] if runs else ()) if all(split in r for r in runs)
    ]
    return {split: mean_of([run[split] for run in runs]) for split in splits}


def mean_of(lines: Sequence[Curve]) -> tuple[Curve, np.ndarray]:
    """At the steps that all lines have; the deviation of one line is 0."""
    steps = functools.reduce(np.intersect1d, [line.steps for line in lines])
    values = np.stack([line.values[np.isin(line.steps, steps)] for line in lines])
    many = len(lines) > 1
    deviation = values.std(0, ddof=1) if many else np.zeros(len(steps))
    return Curve(steps, values.mean(0)), deviation


def band(axes: Axes, line: Curve, deviation: np.ndarray, colour: str) -> None:
    """One standard deviation around the mean of several runs."""
    if deviation.any():
        edges = line.values - deviation, line.values + deviation
        axes.fill_between(line.steps, *edges, color=colour, alpha=0.2, lw=0)


def comparable(
    rows: Rows, quantities: Quantities
) -> tuple[dict[str, Lines], list[str]]:
    """The terms of a run by the names that runs share, and those that say something."""
    terms = terms_of(rows)
    told, alone = telling(terms, quantities), of_one_player(terms)

    def shared(name: str) -> str:
        player, _, term = name.rpartition("/")
        measured = set(terms[name]) != {"train"}
        return term if alone or measured or not player else f"{player}: {term}"

    named: dict[str, Lines] = {}
    for name, lines in terms.items():
        named.setdefault(shared(name), lines)  # of several players: the first
    return named, [shared(name) for name in told]


def plot(axes: Axes, line: Curve, colour: str, split: str) -> None:
    """A line of one run."""
    style = "--" if split == "train" else "-"
    width = 0.8 if split == "train" else 1.4
    marker = "o" if split != "train" and len(line.steps) <= 30 else None
    axes.plot(*line, color=colour, linestyle=style, lw=width, marker=marker, ms=3)


def finish(axes: Axes, name: str, lines: Lines, unit: str) -> None:
    """Names and limits of a panel."""
    axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel(unit, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlim(left=0)
    limits = late_limits(lines)
    if unit == "nats" and limits:
        axes.set_ylim(*limits)
