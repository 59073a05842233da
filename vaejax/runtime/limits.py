"""Bounds that all settings share: numbers are finite, whole numbers fit 32 bits.

Compiled programs compute in float32 and count in int32: a larger number would become
infinite or wrap around there, in silence.
"""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin

import jax
import numpy as np

from vaejax.errors import InputError, nearest, require

MOST = 2**31 - 1
SEEDS = 2**32
LARGEST = float(np.finfo(np.float32).max)


def check_count(name: str, value: Any, least: int = 0, most: int = MOST) -> None:
    """InputError where the value is no whole number from `least` to `most`."""
    require(is_whole(value), name, value, "a whole number")
    require(value >= least, name, value, f"at least {least}")
    require(value <= most, name, value, f"at most {most:,}")


def check_seed(name: str, value: Any) -> None:
    """InputError where the value is no seed: JAX would take it modulo 2^32."""
    check_count(name, value, 0, SEEDS - 1)


def check_number(name: str, value: Any) -> None:
    """InputError where a number is of no use to a program, whatever it is for.

    Of a sequence each element is checked; what is no number passes.
    """
    if isinstance(value, tuple | list):
        for each in value:
            check_number(name, each)
    elif name.rpartition("_")[2] == "seed" and is_whole(value):
        check_seed(name, value)
    elif is_whole(value):
        check_count(name, value, -MOST)
    elif isinstance(value, float | np.floating):
        require(math.isfinite(value), name, value, "a finite number")
        require(abs(value) <= LARGEST, name, value, "below 3.4e38, float32's largest")


def check_setting(name: str, annotation: Any, value: Any) -> None:
    """InputError where a setting is of another type than its annotation, or no number
    that a program can take.

    Arrays pass: a study's program has them as arguments.
    """
    if isinstance(value, jax.Array):
        return
    if get_origin(annotation) is Literal:
        require(isinstance(value, str), name, value, "a name")
        if value not in get_args(annotation):
            known = nearest(value, get_args(annotation))
            raise InputError(f"no {name} {value!r}: {known}")
    if get_origin(annotation) is Annotated:  # the data set
        fits = isinstance(value, get_args(annotation)[0])
        require(fits, name, type(value).__name__, "a name or a Dataset")
    if get_origin(annotation) is tuple:
        require(isinstance(value, tuple | list), name, value, "a tuple")
        for each in value:
            check_setting(name, get_args(annotation)[0], each)
    for kind, (fits, words) in KINDS.items():
        if annotation is kind:
            require(fits(value), name, value, words)
    check_number(name, value)


def check_flags(flags: Mapping[str, Any]) -> None:
    """InputError where a number on the command line is out of all bounds."""
    for name, value in flags.items():
        check_number(name, value)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number of Python's or NumPy's, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def is_number(value: Any) -> bool:
    """Whether it is a real number of Python's or NumPy's, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


KINDS = {
    int: (is_whole, "a whole number"),
    float: (is_number, "a number"),
    bool: (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    str: (lambda value: isinstance(value, str), "a text"),
}
"""The values that a setting of each type takes, in words."""
