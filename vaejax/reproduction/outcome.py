"""The outcome of a row, as one JSON file: the only source of the results' page."""

import dataclasses
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vaejax.errors import InputError
from vaejax.reproduction.catalogue import Row
from vaejax.runtime.jsonlines import read_object
from vaejax.training.workdir import make_folder, write_json

FORMAT = 1
NUMBER = re.compile(r"(-?\d*\.?\d+)(?: ± (\d*\.?\d+))?")
SIGMAS = 2.0
"""Standard errors within which two numbers are called the same."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A row's values, one a seed, and what they were made with.

    `deviation` is of the values over seeds; `error`, of a single seed, the standard
    error over examples. `commit` is of the code that made them; `tree` says whether
    that was changed. `seconds` are those of training for one seed.
    """

    row: str
    budget: str
    mean: float
    seeds: int
    deviation: float | None = None
    error: float | None = None
    values: tuple[float, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: str = ""
    seconds: float | None = None
    date: str = ""
    commit: str = ""
    tree: str = ""
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def standard_error(self) -> float:
        """Of the mean: over seeds where there are several, else over examples."""
        if self.deviation is not None and self.seeds > 1:
            return self.deviation / math.sqrt(self.seeds)
        return self.error or 0.0


class Quoted(NamedTuple):
    """A printed number: its value, its own error, and half of its last digit's unit."""

    value: float
    error: float
    rounding: float


def printed_number(text: str) -> Quoted:
    """The number that was published, as `1.12 ± .04`.

    Raises:
      InputError: the text is no such number.
    """
    found = NUMBER.fullmatch(text)
    if not found:
        raise InputError(f"{text!r} is no published number: write it as 1.12 ± .04")
    number, error = found.groups()
    digits = len(number.partition(".")[2])
    return Quoted(float(number), float(error or 0), 0.5 * 10.0**-digits)


def verdict(row: Row, outcome: Outcome) -> str:
    """The comparison with the published number; empty where there is none.

    The same within two standard errors of the difference, beside what rounding hides;
    else better or worse, by the difference.
    """
    if not row.published:
        return ""
    published = printed_number(row.published)
    difference = outcome.mean - published.value
    allowed = SIGMAS * math.hypot(published.error, outcome.standard_error)
    if abs(difference) <= allowed + published.rounding:
        return "reproduced"
    if row.better == "equal":
        return f"differs by {abs(difference):.2g}"
    good = (difference < 0) == (row.better == "lower")
    return f"{'better' if good else 'not reached'}, by {abs(difference):.2g}"


def summarized(values: Sequence[float], errors: Sequence[float]) -> dict[str, Any]:
    """The fields of an outcome that follow from the values of the seeds.

    Raises:
      InputError: no seed came to a number.
    """
    if not values:
        raise InputError("all seeds diverged: there is no number to keep")
    several = len(values) > 1
    return {
        "mean": statistics.fmean(values),
        "seeds": len(values),
        "deviation": statistics.stdev(values) if several else None,
        "error": errors[0] if errors and not several else None,
        "values": tuple(values),
    }


def place_of_row(folder: Path, name: str) -> Path:
    """The file of a row."""
    return folder / f"{name}.json"


def keep_outcome(folder: Path, outcome: Outcome) -> Path:
    """Writes the file of a row; what is not known is left out."""
    return keep_known(folder, outcome.row, dataclasses.asdict(outcome))


def keep_known(folder: Path, name: str, fields: Mapping[str, Any]) -> Path:
    """Writes the fields that are not empty to the file of a row or a measurement."""
    known = {n: v for n, v in fields.items() if v not in (None, "", (), [], {})}
    make_folder(folder)
    path = place_of_row(folder, name)
    write_json(path, {"format": FORMAT, **known})
    return path


def read_outcome(folder: Path, name: str) -> Outcome | None:
    """The content of a row's file; None where the row was not run.

    Raises:
      InputError: the file is not one of ours.
    """
    path = place_of_row(folder, name)
    if not path.exists():
        return None
    found = read_object(path)
    form = found.pop("format", 0)
    if form != FORMAT or not is_outcome(found) or found["row"] != name:
        raise InputError(f"{path} is damaged: make it again by reproduce {name}")
    return Outcome(**{**found, "values": tuple(found.get("values", ()))})


TYPES: Mapping[str, type] = MappingProxyType(
    {
        **dict.fromkeys(("row", "budget", "device", "date", "commit", "tree"), str),
        **dict.fromkeys(("mean", "deviation", "error", "seconds"), float),
        **dict.fromkeys(("settings", "data", "versions"), dict),
        "seeds": int,
        "values": list,
    }
)
"""Types of an outcome's fields in its file."""


def is_outcome(found: Mapping[str, Any]) -> bool:
    """Whether these are the fields of an outcome, each of its type, numbers finite."""
    needed = {"row", "budget", "mean", "seeds"}
    if not needed <= found.keys() <= TYPES.keys():
        return False
    if not all(isinstance(value, TYPES[name]) for name, value in found.items()):
        return False
    numbers = [*found.get("values", ()), *found.values()]
    finite = all(math.isfinite(each) for each in numbers if isinstance(each, float))
    values = all(isinstance(each, float) for each in found.get("values", ()))
    return finite and values and found["seeds"] > 0
