"""The file with the results of a run's laboratory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaejax.errors import InputError
from vaejax.runtime.jsonlines import read_object
from vaejax.training.workdir import write_json

NAME = "laboratory.json"
FORMAT = 1
Entries = dict[str, dict[str, Any]]
"""By measurement: `step`, `split`, number of `examples`, `settings` and `values`."""


def plain_number(value: Any) -> Any:
    """Python numbers, in lists where there are several; None where not finite."""
    if np.ndim(value):
        return [plain_number(each) for each in value]
    number = float(value)
    return number if math.isfinite(number) else None


def with_earlier(entries: Entries, place: Path) -> dict[str, Any]:
    """The record of new entries, beside those of the file that are of the same step.

    Raises:
      InputError: the file is something else.
    """
    kept: Entries = {}
    if place.exists():
        earlier = measurements_in(place)
        steps = {entry["step"] for entry in entries.values()}
        kept = {n: entry for n, entry in earlier.items() if entry["step"] in steps}
    return {"format": FORMAT, "measurements": kept | entries}


def measurements_in(place: Path) -> Entries:
    """The entries of a file.

    Raises:
      InputError: there is none, or it is damaged.
    """
    if not place.exists():
        raise InputError(
            f"there is no {place}: measure first, by evaluate.py RUN --what gaps"
        )
    found = read_object(place)
    entries = found.get("measurements") if found.get("format") == FORMAT else None
    if not isinstance(entries, dict) or not all(map(is_entry, entries.values())):
        raise InputError(f"{place} is no record of a laboratory: remove it")
    return entries


def is_entry(value: Any) -> bool:
    """Whether it is the entry of a measurement."""
    if not isinstance(value, Mapping) or not isinstance(value.get("step"), int):
        return False
    return all(isinstance(value.get(name), Mapping) for name in ("settings", "values"))


def write_record(record: Mapping[str, Any], place: Path) -> None:
    """Writes the file, whole or not at all."""
    write_json(place, record)
