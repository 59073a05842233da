"""Runs that are alike but for their seeds: one row of a comparison."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaejax.reports.comparison import (
    ComparedLine,
    differing_lines,
    in_order,
    requested,
    side_by_side,
)
from vaejax.reports.differences import Difference, welch_difference
from vaejax.reports.page import words
from vaejax.sweeps.summary import mean_and_deviation, values_by_name
from vaejax.training.facts import Facts, Value


class SeedGroup(NamedTuple):
    """Runs of the same preset, settings and data; their seeds may differ."""

    name: str
    """The settings that set it apart from the other groups."""
    runs: tuple[int, ...]
    """Their places among the runs that are compared."""

    def first(self, runs: Sequence[Facts]) -> int | None:
        """Its first run that did not diverge, if there is one."""
        return next((n for n in self.runs if not runs[n].diverged), None)


def group_by_seed(runs: Sequence[Facts]) -> list[SeedGroup]:
    """The groups, in the order of their first runs."""
    found: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        key = json.dumps(without_seed(run), sort_keys=True, default=str)
        found.setdefault(key, []).append(place)
    lines = differing_lines(
        [without_seed(runs[places[0]]) for places in found.values()]
    )
    return [
        SeedGroup(group_name(lines, number), tuple(places))
        for number, places in enumerate(found.values())
    ]


def without_seed(run: Facts) -> dict[str, Any]:
    """All settings of a run but its seed: they tell groups apart."""
    return {name: v for name, v in requested(run).items() if name != "seed"}


def group_name(lines: Sequence[ComparedLine], number: int) -> str:
    """As in `vae, beta 4`; `all runs` where there is nothing to tell apart."""
    cells = {line.name: line.cells[number] for line in lines}
    preset = [cells.pop("preset")] if "preset" in cells else []
    told = [f"{n} {words(cell)}" for n, cell in cells.items() if cell is not None]
    return ", ".join([*preset, *told]) or "all runs"


def group_outcomes(
    groups: Sequence[SeedGroup], runs: Sequence[Facts]
) -> list[ComparedLine]:
    """Means over each group's runs, as `Value`s whose error is the deviation.

    It is that of a sample of runs (n - 1), and None of a single run or of equal values.
    Runs that diverged are left out.
    """

    def values(group: SeedGroup) -> dict[str, Value]:
        evaluated = [runs[n] for n in group.runs if runs[n].evaluation]
        sound = [numbers_of_run(run) for run in evaluated]
        mean, deviation = mean_and_deviation(sound)
        return {
            name: Value(name, mean[name], deviation.get(name) or None) for name in mean
        }

    lines = side_by_side([values(group) for group in groups])
    return in_order(lines, runs)


def count_diverged(group: SeedGroup, runs: Sequence[Facts]) -> int:
    """The number of runs without values, because they diverged."""
    return sum(bool(runs[place].diverged) for place in group.runs)


def seed_differences(
    groups: Sequence[SeedGroup], runs: Sequence[Facts]
) -> Mapping[int, Mapping[str, Difference]]:
    """Differences of the means of groups to that of the first one, over seeds.

    By the place of a group; of numbers that two or more runs of both groups have, whose
    evaluations were of as many examples and importance samples of the same split.
    """
    found = {}
    for place in range(1, len(groups)):
        both = groups[0], groups[place]
        if len({measured_as(runs[n]) for g in both for n in g.runs} - {None}) > 1:
            continue
        first, second = (
            values_by_name([numbers_of_run(runs[n]) for n in group.runs])
            for group in both
        )
        each = {
            name: welch_difference(first[name], second[name])
            for name in first
            if min(len(first[name]), len(second.get(name, ()))) > 1
        }
        if each:
            found[place] = each
    return found


def measured_as(run: Facts) -> tuple[Any, ...] | None:
    """The split, its examples and the importance samples of a run's evaluation."""
    e = run.evaluation
    return (e.split, e.examples, e.samples) if e else None


def numbers_of_run(run: Facts) -> dict[str, float | str]:
    """The numbers of a run's evaluation by name; none where there is no evaluation."""
    return {v.name: v.value for v in run.evaluation.values} if run.evaluation else {}
