"""Learning curves, from the rows of `metrics.jsonl`."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.quantities import Quantities, quantities_of, rank, unit_of
from vaejax.plots.frame import Picture, heading, panels
from vaejax.runtime.jsonlines import read_rows
from vaejax.runtime.storage import path_of

COLOURS = {"train": "tab:blue", "validation": "tab:orange", "test": "tab:red"}
NOT_DRAWN = ("step", "split", "selection", "examples")
BESIDE_A_NOTE = 20
"""The longest title, in letters, that leaves room for a note beside it."""


class Curve(NamedTuple):
    """A term over the steps of a split."""

    steps: np.ndarray
    values: np.ndarray


Lines = Mapping[str, Curve]
"""A line for each split."""


def curves(
    experiment: Experiment,
    state: TrainState,
    workdir: str | os.PathLike[str],
    *,
    columns: int | None = None,
) -> Picture:
    """Loss terms over training steps: train against held-out, a panel for each term.

    Left out are terms of training that say nothing more: those that are constant (a
    weight that is no schedule), and those equal to another but for the sign (at beta =
    1 the loss is minus the ELBO). Where early values dwarf the later ones, the axis
    fits the last three quarters of the run and a note says where the line comes from.

    Args:
      experiment: whose terms they are.
      state: its step is marked where training went on after it.
      workdir: where `metrics.jsonl` is.
      columns: panels of a row; by default 3, or 2 where there are 4.

    Raises:
      InputError: the workdir has no rows yet.
    """
    rows = read_rows(path_of(workdir) / "metrics.jsonl")
    if not rows:
        raise InputError(f"{workdir} has no metrics yet: train it to its first report")
    told = quantities_of(experiment)
    terms = telling(terms_of(rows), told)
    names, step = list(terms), int(state.step)
    alone = of_one_player(names)
    stopped = step if step < rows[-1]["step"] else None

    def draw(axes: Axes, i: int) -> None:
        player, _, term = names[i].rpartition("/")
        label = term if alone or not player else f"{player}: {term}"
        unit = unit_of(told, term)
        draw_term(axes, terms[names[i]], label.replace("_", " "), unit == "nats")
        axes.set_ylabel(unit, fontsize=8)
        axes.set_xlim(0, 1.02 * rows[-1]["step"])
        if term == "active_units":
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(0, axes.dataLim.y1 + 1)
        if stopped:
            axes.axvline(stopped, color="black", linestyle=":", label="state loaded")

    columns = columns or (2 if len(names) == 4 else 3)
    figure = panels(len(names), heading(experiment, "terms over steps"), draw, columns)
    shared_legend(figure)
    return figure


def of_one_player(names: Iterable[str]) -> bool:
    """Whether all terms are those of one player, whose name then says nothing."""
    return len({name.rpartition("/")[0] for name in names} - {""}) == 1


def shared_legend(figure: Picture) -> None:
    """One legend below all panels."""
    entries = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=len(entries),
        fontsize=9,
        frameon=False,
    )


def terms_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Lines]:
    """Lines by name. A held-out term joins that of the players which train it."""
    found: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, value in row.items():
            if name not in NOT_DRAWN and not name.endswith("_se"):
                found[name][row["split"]].append((row["step"], value))
    lines = {
        name: {split: Curve(*np.array(points).T) for split, points in splits.items()}
        for name, splits in found.items()
    }
    trained = {name.rpartition("/")[2] for name in lines if "/" in name}
    return {
        name: {**splits, **(lines.get(name.rpartition("/")[2], {}))}
        for name, splits in lines.items()
        if "/" in name or name not in trained
    }


def telling(terms: Mapping[str, Lines], quantities: Quantities) -> dict[str, Lines]:
    """The terms to draw, in order: those with held-out values, and what is new.

    The ELBO comes before the loss, which at beta = 1 is the same but for its sign.
    """

    def place(name: str) -> tuple[bool, int, str]:
        term = name.rpartition("/")[2]
        return (term != "elbo", rank(quantities, term)[0], name)

    kept: dict[str, Lines] = {}
    held_out = {n: lines for n, lines in terms.items() if set(lines) != {"train"}}
    for name in sorted(terms, key=place):
        others = kept | held_out
        if name in held_out or not says_nothing(terms[name]["train"], others):
            kept[name] = terms[name]
    return kept or dict(terms)


def says_nothing(line: Curve, kept: Mapping[str, Lines]) -> bool:
    """Whether a line is constant, or one of those that are kept but for its sign."""
    values = line.values
    others = [lines["train"].values for lines in kept.values() if "train" in lines]
    return np.allclose(values, values[0]) or any(
        len(other) == len(values) and np.allclose(np.abs(other), np.abs(values), 1e-4)
        for other in others
    )


def draw_term(axes: Axes, lines: Lines, label: str, in_nats: bool) -> None:
    """One panel: a line for each split, marked where it has few points.

    Only losses are cut to their late values: a schedule is shown whole.
    """
    for split, line in lines.items():
        marker = "o" if len(line.steps) <= 30 else None
        axes.plot(*line, color=COLOURS[split], marker=marker, ms=3, lw=1.3, label=split)
    axes.set_xlabel("step", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    limits = late_limits(lines) if in_nats else None
    if limits:
        axes.set_ylim(*limits)
    note = origin(lines, limits) if limits else ""
    axes.set_title(note, fontsize=8, loc="right", color="dimgray")
    below = note and len(label) > BESIDE_A_NOTE
    axes.set_title(f"{label}\n" if below else label, fontsize=10, loc="left")


def late_limits(lines: Lines) -> tuple[float, float] | None:
    """Limits of the last three quarters of the steps, where early values dwarf them."""
    last = max(line.steps[-1] for line in lines.values())
    every = np.concatenate([line.values for line in lines.values()])
    late = np.concatenate([v[s >= last / 4] for s, v in lines.values()])
    low, high = float(late.min()), float(late.max())
    if low == high or np.ptp(every) <= 2 * (high - low):
        return None
    pad = 0.1 * (high - low)
    return low - pad, high + pad


def origin(lines: Lines, limits: tuple[float, float]) -> str:
    """Says where the first line that begins outside of its panel begins."""
    starts = [float(line.values[0]) for line in lines.values()]
    outside = [v for v in starts if not limits[0] <= v <= limits[1]]
    return f"starts at {outside[0]:.4g}" if outside else ""
