"""How the seeds of each combination of settings came out."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaejax.replicas import Changes, Replica


class Row(NamedTuple):
    """One combination of settings: how its seeds came out."""

    settings: Changes
    replicas: int
    diverged: int
    mean: dict[str, float]
    deviation: dict[str, float]
    """Over replicas, of a sample (n - 1); without entries where there is one."""


def summarize(
    replicas: Sequence[Replica], values: Sequence[Changes | None]
) -> list[Row]:
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
        columns = {
            name: [numbers[name] for numbers in sound]
            for name, value in (sound[0] if sound else {}).items()
            if isinstance(value, float | int)
        }
        mean = {name: statistics.fmean(column) for name, column in columns.items()}
        many = columns if len(sound) > 1 else {}
        deviation = {name: statistics.stdev(column) for name, column in many.items()}
        lost = len(each) - len(sound)
        rows.append(Row(dict(settings), len(each), lost, mean, deviation))
    return rows
