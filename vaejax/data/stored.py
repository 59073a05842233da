"""JSON values as the Python types that they were written from."""

import collections.abc
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from vaejax.errors import InputError

LARGEST = 2**63
"""Whole numbers in our files are below it."""
T = TypeVar("T")


def read_as(wanted: Any, value: Any, name: str) -> Any:
    """A value that JSON gave, as a type that `json.dumps` has written.

    Types are those of settings and descriptions: numbers, texts, `Literal`, tuples,
    mappings, unions and records (`NamedTuple`). Of any other nothing is checked.

    Args:
      wanted: the type.
      value: what JSON gave for it.
      name: of the value, for the message.

    Raises:
      InputError: the value is of another type.
    """
    origin, inside = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return read_as(inside[0], value, name)
    if origin in (Union, types.UnionType):
        return read_as_one(inside, value, name)
    if origin is Literal and value in inside:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        many = inside[-1] is Ellipsis
        kinds = inside[:1] * len(value) if many else inside
        if len(kinds) == len(value):
            parts = zip(kinds, value, range(len(value)), strict=True)
            return tuple(read_as(kind, v, f"{name}[{i}]") for kind, v, i in parts)
    if origin is collections.abc.Mapping and isinstance(value, dict):
        return {k: read_as(inside[1], v, f"{name}.{k}") for k, v in value.items()}
    if is_record(wanted) and isinstance(value, list | tuple):
        names = (*wanted._fields, *(f"[{i}]" for i in range(len(value))))
        return read_record(wanted, dict(zip(names, value, strict=False)), name)
    if is_plain(wanted, value) and not is_record(wanted):
        return value
    raise InputError(f"{name} is {quoted_value(value)}, which it cannot be")


def read_as_one(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """The value as the first type that it is of."""
    for kind in kinds:
        try:
            return read_as(kind, value, name)
        except InputError:
            continue
    raise InputError(f"{name} is {quoted_value(value)}, which it cannot be")


def read_record(kind: Any, fields: Any, name: str) -> Any:
    """A `NamedTuple` of the fields of a JSON object, and of no others: InputError."""
    if not isinstance(fields, Mapping):
        raise InputError(f"{name} is {quoted_value(fields)}: it must be an object")
    known = get_type_hints(kind)
    unknown = sorted(fields.keys() - known.keys())
    lacking = sorted(known.keys() - fields.keys() - kind._field_defaults.keys())
    if unknown or lacking:
        what = f"an unknown {unknown[0]!r}" if unknown else f"no {lacking[0]!r}"
        raise InputError(f"{name} has {what[:100]}")
    return kind(**{n: read_as(known[n], v, f"{name}.{n}") for n, v in fields.items()})


def is_record(kind: Any) -> bool:
    """Whether it is a `NamedTuple`."""
    return (
        isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    )


def is_plain(wanted: Any, value: Any) -> bool:
    """Whether a value is of a type without parts; a whole number can be a real one."""
    if wanted in (None, types.NoneType):
        return value is None
    if wanted is bool:
        return isinstance(value, bool)
    if wanted in (int, float) and type(value) is int:
        return abs(value) < LARGEST
    if wanted in (int, float) and type(value) is float:
        return wanted is float or value.is_integer()
    if wanted is str:
        return isinstance(value, str)
    return get_origin(wanted) is None and wanted not in (int, float, dict, list)


def quoted_value(value: Any) -> str:
    """A value on a line, cut short."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
