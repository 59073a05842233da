"""The one exception for what a user can mend."""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


class InputError(ValueError):
    """What was asked for cannot be done: one line that says why and what to do.

    Scripts print the line and exit with code 2; from Python it is a `ValueError`.
    """


def require(holds: Any, name: str, value: object, wanted: str) -> None:
    """Raises InputError where a setting is out of range.

    A setting that a study traces is not checked: it was, as a number, before.
    """
    if isinstance(holds, bool | np.bool_) and not holds:
        flag = name.replace("_", "-")
        raise InputError(f"--{flag} is {value}: it must be {wanted}")


def nearest(name: str, names: Iterable[str]) -> str:
    """'did you mean a, b?' where names are close, else all names to choose from."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"choose of {', '.join(known)}"
