"""Means and deviations over the seeds of each combination of settings."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaejax.sweeps.replicas import Changes, Replica


class StudyRow(NamedTuple):
    """One combination of settings: how its seeds came out."""

    settings: Changes
    replicas: int
    diverged: int
    mean: dict[str, float]
    deviation: dict[str, float]
    """Over replicas, of a sample (n - 1). A name is left out where fewer than two
    replicas have it, or a value of theirs is not finite."""


def summarize(
    replicas: Sequence[Replica], values: Sequence[Changes | None]
) -> list[StudyRow]:
    """A row for each combination of settings, from each replica's numbers.

    `values` are None where a replica diverged; such replicas are counted and left out.
    """
    found: dict[Any, list[tuple[Replica, Changes | None]]] = {}
    for replica, numbers in zip(replicas, values, strict=True):
        settings = {n: v for n, v in replica.changes.items() if n != "seed"}
        found.setdefault(tuple(settings.items()), []).append((replica, numbers))
    rows = []
    for settings, each in found.items():
        sound = [numbers for _, numbers in each if numbers is not None]
        mean, deviation = mean_and_deviation(sound)
        lost = len(each) - len(sound)
        rows.append(StudyRow(dict(settings), len(each), lost, mean, deviation))
    return rows


def mean_and_deviation(
    sound: Sequence[Changes],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means and deviations of each number, as a `StudyRow` has them."""
    columns = values_by_name(sound)
    mean = {name: statistics.fmean(column) for name, column in columns.items()}
    deviation = {
        name: statistics.stdev(column)  # exact: 0 where all are equal
        for name, column in columns.items()
        if len(column) > 1 and all(map(math.isfinite, column))
    }
    return mean, deviation


def values_by_name(sound: Sequence[Changes]) -> dict[str, list[float]]:
    """Each number of the replicas that have it; one may lack an error, say."""
    found: dict[str, list[float]] = {}
    for numbers in sound:
        for name, value in numbers.items():
            if isinstance(value, float | int):
                found.setdefault(name, []).append(value)
    return found
