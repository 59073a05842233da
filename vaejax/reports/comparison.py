"""Several runs side by side: what differs, and what came out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.errors import InputError
from vaejax.experiment import Quantity
from vaejax.metrics.quantities import Quantities, rank
from vaejax.training.facts import Facts


class ComparedLine(NamedTuple):
    """One quantity of each run; None where a run has none."""

    name: str
    cells: tuple[Any, ...]


def expanded(workdirs: Sequence[Path]) -> list[Path]:
    """The runs; for a study's folder, its replicas.

    Raises:
      InputError: a run is given twice.
    """
    found = [run for workdir in workdirs for run in runs_in(workdir)]
    places = [run.resolve() for run in found]
    for run, place in zip(found, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{run} is given more than once: give each run once")
    return found


def runs_in(workdir: Path) -> list[Path]:
    """The run itself, or the replicas of the study that lives there."""
    if (workdir / "config.json").exists() or not workdir.is_dir():
        return [workdir]
    replicas = (run for run in workdir.iterdir() if (run / "config.json").exists())
    return sorted(replicas) or [workdir]


def short_names(workdirs: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart."""
    parts = [workdir.resolve().parts for workdir in workdirs]
    length = 1
    while len({each[-length:] for each in parts}) < len(parts):
        length += 1
    return ["/".join(each[-length:]) for each in parts]


def side_by_side(described: Sequence[Mapping[str, Any]]) -> list[ComparedLine]:
    """A line for each name, in order."""
    names = dict.fromkeys(name for each in described for name in each)
    return [
        ComparedLine(name, tuple(each.get(name) for each in described))
        for name in names
    ]


def check_comparable(runs: Sequence[Facts]) -> None:
    """InputError where runs are of different data, or of different likelihoods where
    they have one: their numbers are of different events.
    """
    for what, found in (
        ("data set", [(run.workdir, data_name(run)) for run in runs]),
        ("likelihood", [(r.workdir, r.likelihood) for r in runs if r.likelihood]),
    ):
        for workdir, value in found[1:]:
            first, other = found[0]
            if value != other:
                raise InputError(
                    f"{first} and {workdir} differ in {what} ({other} and {value}), so "
                    "their numbers do not compare: report each alone"
                )


def data_name(run: Facts) -> str:
    """Data by name and the start of its digest."""
    return f"{run.data['name']} {run.data['digest'][:8]}"


def differing_settings(runs: Sequence[Facts]) -> list[ComparedLine]:
    """The preset, the data and the settings that are not the same in all runs."""
    return differing_lines([requested(run) for run in runs])


def requested(run: Facts) -> dict[str, Any]:
    """The preset, its settings and the data of a run."""
    return {"preset": run.preset, **run.arguments, "data digest": run.data["digest"]}


def differing_lines(described: Sequence[Mapping[str, Any]]) -> list[ComparedLine]:
    """The lines whose cells are not all the same."""
    lines = side_by_side(described)
    return [line for line in lines if any(c != line.cells[0] for c in line.cells)]


def run_outcomes(runs: Sequence[Facts]) -> list[ComparedLine]:
    """The numbers of the runs' evaluations, each a `Value`."""
    values = [run.evaluation.values if run.evaluation else () for run in runs]
    lines = side_by_side([{value.name: value for value in each} for each in values])
    return in_order(lines, runs)


def in_order(
    lines: Sequence[ComparedLine], runs: Sequence[Facts]
) -> list[ComparedLine]:
    """The numbers in the order in which the runs have them."""
    known = merged_quantities(runs)
    return sorted(lines, key=lambda line: rank(known, line.name))


def merged_quantities(runs: Sequence[Facts]) -> Quantities:
    """The descriptions of the numbers of all runs."""
    found: dict[str, Quantity] = {}
    for run in runs:
        found |= run.quantities
    return found


def conditions(runs: Sequence[Facts]) -> list[ComparedLine]:
    """The conditions of measurement: numbers compare where these lines agree."""
    return side_by_side(
        [
            {
                "split": e.split,
                "examples": e.examples,
                "importance samples": e.samples,
                "step": e.step,
                "measured by": "evaluate.py" if e.final else "training",
            }
            if (e := run.evaluation)
            else {}
            for run in runs
        ]
    )
