"""Numbers of an evaluation as a file: after they were printed, and finite only."""

import contextlib
import errno
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.experiment import Experiment
from vaejax.runtime.jsonlines import finite
from vaejax.runtime.lock import Held, held
from vaejax.runtime.storage import is_remote, path_of
from vaejax.sharing.manifest import is_shared
from vaejax.training.evaluator import SplitNumbers
from vaejax.training.per_example import (
    MeasuredSplit,
    example_values,
    write_examples,
)
from vaejax.training.workdir import write_json


def place_of(out: Path | None, otherwise: Path) -> Path:
    """The file for numbers; InputError if the folder of `out` does not exist."""
    place = otherwise if out is None else path_of(out)
    if out is not None and not is_remote(place) and not place.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {place.parent}")
    return place


def keep_numbers(
    record: Mapping[str, Any], values: Mapping[str, float], place: Path, named: bool
) -> bool:
    """Whether printed numbers could be written; those not finite are left out.

    A folder that cannot be written is a warning, unless the user has named it, and so
    is a shared model, which stays as it is.
    """
    if warning := overflowed(values):
        print(warning, file=sys.stderr)
    if not named and is_shared(place.parent):
        reason = f"{place.parent} is a shared model and stays as it is"
        print(f"warning: {reason}: give --out FILE to keep this", file=sys.stderr)
        return False
    try:
        write_json(place, finite(record))
    except OSError as error:
        if named or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        reason = f"{place.parent} cannot be written ({error.strerror})"
        print(f"warning: {reason}: give --out FILE to keep this", file=sys.stderr)
        return False
    print(f"wrote {place}")
    return True


def keep_examples(
    experiment: Experiment, about: MeasuredSplit, found: SplitNumbers, place: Path
) -> None:
    """Writes the numbers of an evaluation's examples, and says so."""
    write_examples(example_values(experiment, about, found), place)
    print(f"wrote {place}, {len(found.each['seen']):,} examples")


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[bool]:
    """Whether a run may be written while entered; a warning says who else writes."""
    with contextlib.ExitStack() as ends:
        try:
            if not is_shared(workdir):  # where nothing is written, no lock either
                ends.enter_context(held(workdir))
            allowed = True
        except Held as error:
            print(
                f"warning: {error.holder}: nothing was written; give --out FILE to "
                "keep this",
                file=sys.stderr,
            )
            allowed = False
        yield allowed


def overflowed(values: Mapping[str, float]) -> str:
    """A warning that names the values which are not finite; empty where all are."""
    names = [name for name, value in values.items() if not math.isfinite(value)]
    if not names:
        return ""
    return (
        f"warning: {', '.join(names)} cannot be computed in float32, and are not kept: "
        "the data or the model's parameters are too large"
    )
