"""A choice by its name in the settings."""

from collections.abc import Mapping
from typing import TypeVar

from vaejax.errors import InputError, nearest

T = TypeVar("T")


def pick(what: str, name: str, known: Mapping[str, T]) -> T:
    """The entry called `name`, or an InputError with the nearest names."""
    if name not in known:
        raise InputError(f"no {what} {name!r}: {nearest(name, known)}")
    return known[name]
