"""What a comparison of runs says: their numbers, and how far they differ."""

import math
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from vaejax.errors import InputError, nearest
from vaejax.metrics.quantities import Quantities, entry_of, rank
from vaejax.reports.comparison import (
    ComparedLine,
    check_comparable,
    expanded,
    merged_quantities,
    run_outcomes,
    short_names,
)
from vaejax.reports.differences import Difference
from vaejax.reports.groups import (
    SeedGroup,
    group_by_seed,
    group_outcomes,
    seed_differences,
)
from vaejax.reports.pairing import Pairs, Wanted, pair_runs
from vaejax.runtime.storage import path_of
from vaejax.training.card import card_of
from vaejax.training.facts import Facts, Value, gather_facts
from vaejax.training.workdir import read_config

BESIDE = ("examples", "generated", "compared_with", "classifier_digest", "*_spread")
DOUBT = ("*_ess", "*_low_ess", "*_high_khat", "*_bias")
"""Numbers that say how far to trust another one; differences leave them out."""


class Comparison(NamedTuple):
    """Runs side by side."""

    runs: tuple[Facts, ...]
    names: tuple[str, ...]
    """The shortest names that tell them apart."""
    groups: tuple[SeedGroup, ...]
    """Runs that differ in their seeds alone, together."""
    pairs: Pairs | None
    """Differences over the same examples."""
    unpaired: str
    """The reason why there are none; empty where nobody asked for them, too."""
    over_seeds: Mapping[int, Mapping[str, Difference]]
    """Differences of groups to the first one, by their places."""
    metrics: tuple[str, ...]
    """Names of the numbers that were asked for; empty is all that are no doubts."""

    @property
    def outcomes(self) -> list[ComparedLine]:
        """The numbers of each run's evaluation, with the error over examples."""
        return [line for line in run_outcomes(self.runs) if self.shows(line.name)]

    @property
    def means(self) -> list[ComparedLine]:
        """The means of each group, with the deviation over seeds."""
        lines = group_outcomes(self.groups, self.runs)
        return [line for line in lines if self.shows(line.name)]

    @property
    def several(self) -> bool:
        """Whether a group has more than one run."""
        return len(self.groups) < len(self.runs)

    @property
    def quantities(self) -> Quantities:
        """The descriptions of all numbers."""
        return merged_quantities(self.runs)

    def shows(self, name: str) -> bool:
        """Whether a number was asked for."""
        return not self.metrics or name in self.metrics

    def main(self, names: Mapping[str, Any]) -> list[str]:
        """The names that tables of differences have, in their order."""
        asked = [name for name in names if self.shows(name)]
        if not self.metrics:
            minor = (*BESIDE, *DOUBT)
            asked = [n for n in asked if not any(fnmatchcase(n, p) for p in minor)]
        return sorted(asked, key=lambda name: rank(self.quantities, name))

    def paired_lines(self) -> list[ComparedLine]:
        """Differences to the first run, a line for each number, a cell for each run."""
        if self.pairs is None:
            return []
        others = [n for n in range(len(self.runs)) if n != self.pairs.first]
        return self._lines(self.pairs.differences, others)

    def seed_lines(self) -> list[ComparedLine]:
        """Differences to the first group, a cell for each group."""
        return self._lines(self.over_seeds, range(1, len(self.groups)))

    def _lines(
        self, found: Mapping[int, Mapping[str, Difference]], places: Sequence[int]
    ) -> list[ComparedLine]:
        names = self.main({name: 0 for each in found.values() for name in each})
        return [
            ComparedLine(name, tuple(found.get(n, {}).get(name) for n in places))
            for name in names
        ]

    def record(self) -> dict[str, Any]:
        """The comparison as JSON values, with the card of each run."""
        pairs = self.pairs
        return {
            "runs": [
                {"name": name, "workdir": str(run.workdir), "card": card_of(run)}
                for name, run in zip(self.names, self.runs, strict=True)
            ],
            "groups": [self._group_record(n) for n in range(len(self.groups))],
            "paired": pairs
            and {
                "examples": pairs.examples,
                "importance_samples": pairs.samples,
                "first": self.names[pairs.first],
                "differences": {
                    self.names[n]: differences_record(each)
                    for n, each in pairs.differences.items()
                },
            },
            "unpaired": self.unpaired,
        }

    def _group_record(self, place: int) -> dict[str, Any]:
        group = self.groups[place]
        cells = {line.name: line.cells[place] for line in self.means}
        return {
            "name": group.name,
            "runs": [self.names[n] for n in group.runs],
            "values": {
                name: {"mean": cell.value, "deviation": cell.error}
                for name, cell in cells.items()
                if isinstance(cell, Value)
            },
            "minus_first": differences_record(self.over_seeds.get(place, {})),
        }


def differences_record(found: Mapping[str, Difference]) -> dict[str, Any]:
    """Differences as JSON values."""
    return {
        name: {
            "difference": each.value if math.isfinite(each.value) else None,
            "standard_error": each.error,
            "interval": None if each.error is None else [each.low, each.high],
            "count": each.count,
        }
        for name, each in found.items()
    }


def compared_runs(
    runs: Sequence[Facts], metrics: Sequence[str] = (), wanted: Wanted | None = None
) -> Comparison:
    """The comparison of runs; over the same examples, too, where `wanted` says how.

    Where examples cannot be paired, `unpaired` has the reason.

    Raises:
      InputError: no run can have one of the metrics.
    """
    check_metrics(metrics, merged_quantities(runs))
    groups, names = group_by_seed(runs), short_names([run.workdir for run in runs])
    if len(groups) == len(runs):
        groups = [g._replace(name=names[g.runs[0]]) for g in groups]
    pairs, unpaired = None, ""
    try:
        pairs = pair_runs(runs, wanted) if wanted else None
    except InputError as error:
        unpaired = str(error)
    return Comparison(
        runs=tuple(runs),
        names=tuple(names),
        groups=tuple(groups),
        pairs=pairs,
        unpaired=unpaired,
        over_seeds=seed_differences(groups, runs),
        metrics=tuple(metrics),
    )


def check_metrics(names: Sequence[str], quantities: Quantities) -> None:
    """InputError where a run has no number of that name."""
    for name in names:
        if not entry_of(quantities, name):
            raise InputError(f"no metric {name!r}: {nearest(name, quantities)}")


def open_runs(
    workdirs: Sequence[str | os.PathLike[str]], least: int = 2
) -> list[Facts]:
    """The facts of runs that are given together; a study stands for its replicas.

    Raises:
      InputError: they do not compare, or there are fewer than `least`.
    """
    folders = [path_of(workdir) for workdir in workdirs]
    runs = expanded(folders)
    for run in runs:
        read_config(run)
    if len(runs) < least:
        raise InputError("a comparison is of two runs or more: give their folders")
    facts = [gather_facts(run) for run in runs]
    # A study varies what it was asked to; runs given by hand must compare.
    if len(folders) > 1:
        check_comparable(facts)
    return facts
