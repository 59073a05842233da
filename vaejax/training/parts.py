"""The terms of an interval of the log that a signal cut: what a call that goes on needs
to report the interval as if nothing had happened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.data.stored import read_as
from vaejax.errors import InputError
from vaejax.runtime.jsonlines import parsed
from vaejax.training.workdir import write_json

NAME = "interval.json"


class Part(NamedTuple):
    """Steps `start` + 1 to `step` of an interval."""

    start: int
    step: int
    terms: Mapping[str, np.ndarray]
    """Each `[step - start]`."""


def write_part(workdir: Path, part: Part) -> None:
    """Keeps a part in a workdir."""
    terms = {name: values.tolist() for name, values in part.terms.items()}
    kinds = {name: str(values.dtype) for name, values in part.terms.items()}
    write_json(workdir / NAME, {**part._asdict(), "terms": terms, "dtypes": kinds})


def read_part(workdir: Path, step: int) -> Part | None:
    """The part that ends at a step; None where the run goes on from elsewhere."""
    path = workdir / NAME
    try:
        found = parsed(path.read_bytes())
        if found["step"] != step:
            return None
        lists = read_as(Mapping[str, tuple[float, ...]], found["terms"], NAME)
        kinds = read_as(Mapping[str, str], found["dtypes"], NAME)
        terms = {n: np.asarray(each, kinds[n]) for n, each in lists.items()}
        return Part(int(found["start"]), step, terms)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is damaged: remove it, and one line of the log is of fewer steps"
        ) from None
