"""The one exception for what a user can mend."""

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np


class InputError(ValueError):
    """A request that cannot be met: one line that says why and what to do.

    Scripts print the line and exit with code 2; from Python it is a `ValueError`.
    """


def require(holds: Any, name: str, value: object, wanted: str) -> None:
    """Raises InputError where a setting is out of range.

    A setting that a study traces is not checked: it was, as a number, before.
    """
    if isinstance(holds, bool | np.bool_) and not holds:
        flag = name.replace("_", "-")
        raise InputError(f"--{flag} is {as_text(value)}: it must be {wanted}")


def as_text(value: object) -> str:
    """A value for a line: cut where it is long, as numbers of 1,000 digits are."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."


def shortened(line: str, most: int = 500) -> str:
    """One line of at most `most` characters, its middle left out where it is longer."""
    line = " ".join(line.split())
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 5]} ... {line[-end:]}"


def nearest(name: str, names: Iterable[str]) -> str:
    """'did you mean a, b?' where names are close, else all names to choose from."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"choose of {', '.join(known)}"
