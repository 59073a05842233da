"""JSON as runs keep it: read with one line for what is damaged.

A file of rows holds one JSON object a line, each with its step and split. Whoever is
killed while it writes leaves a torn last line, which readers leave out; any other line
that cannot be read is an error, since rows after it would be lost with it.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.data.stored import LARGEST
from vaejax.errors import InputError
from vaejax.runtime.storage import write_whole

log = logging.getLogger(__name__)
Row = dict[str, Any]
NEEDED = {"timing.jsonl": ("seconds", "examples_per_s")}
"""Entries that rows of a file have beside step and split."""


class Line(NamedTuple):
    """A line of a file, and the row that it holds."""

    content: bytes
    row: Row


class Rows(NamedTuple):
    """The lines of a file, and the bytes of a torn one after them."""

    lines: list[Line]
    torn: bytes


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without numbers that are not finite, which JSON does not have."""
    return {
        name: value
        for name, value in record.items()
        if not isinstance(value, float) or math.isfinite(value)
    }


def parsed(content: bytes | str) -> Any:
    """The JSON value of a text; ValueError where it is none.

    Python's reader fails in other ways, too, where nesting is deep or numbers are long.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        return json.loads(text)
    except RecursionError:
        raise ValueError("its nesting is too deep") from None


def is_row(value: Any, name: str) -> bool:
    """Whether it is a row of the file of that name: a step, a split, and numbers.

    Of `environment.jsonl` texts as well.
    """
    if not isinstance(value, dict) or not whole_number(value.get("step")):
        return False
    rest = {n: v for n, v in value.items() if n != "split"}
    texts = name == "environment.jsonl"
    numbers = all(
        is_json_number(v) or (texts and isinstance(v, str)) for v in rest.values()
    )
    needed = NEEDED.get(name, ())
    return isinstance(value.get("split"), str) and numbers and rest.keys() >= {*needed}


def whole_number(value: Any) -> bool:
    """Whether it is a count: no truth value, not negative, not absurdly large."""
    return type(value) is int and 0 <= value < LARGEST


def is_json_number(value: Any) -> bool:
    """Whether it is a number of a file: whole and not absurdly large, or real."""
    return type(value) is float or (type(value) is int and abs(value) < LARGEST)


def parse_rows(path: Path) -> Rows:
    """The content of a file of rows; nothing where there is no file.

    InputError where a line other than the last holds no row.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Rows([], b"")
    found = content.removesuffix(b"\n").split(b"\n") if content else []
    lines = []
    for number, line in enumerate(found, 1):
        row = row_of(line, path.name)
        if row is not None:
            lines.append(Line(line + b"\n", row))
        elif number < len(found):
            raise InputError(
                f"{path}: line {number} of {len(found)} is damaged, and the file was "
                "left as it is: mend that line, or remove it"
            )
        else:
            return Rows(lines, line + b"\n")
    return Rows(lines, b"")


def row_of(line: bytes, name: str) -> Row | None:
    """The row of a line; None where it holds none."""
    try:
        row = parsed(line)
    except ValueError:
        return None
    return row if is_row(row, name) else None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a torn last line is left out, and stays where it is."""
    return [line.row for line in parse_rows(path).lines]


def lines_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSON, a line each."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def keep_until(path: Path, step: int) -> list[Row]:
    """Takes rows after `step`, which a resumed run writes again, and a torn last line
    out of the file, and returns the others.

    They are added to `NAME.dropped` first, and a warning says so.
    """
    lines, torn = parse_rows(path)
    kept = [line for line in lines if line.row["step"] <= step]
    dropped = [line.content for line in lines if line.row["step"] > step]
    dropped += [torn] if torn else []
    if dropped:
        aside = path.with_name(f"{path.name}.dropped")
        before = aside.read_bytes() if aside.exists() else b""
        write_whole(aside, before + b"".join(dropped))
        end = " (the last was torn)" if torn else ""
        what = f"{len(dropped)} of {len(lines) + bool(torn)} lines{end}"
        log.warning("%s goes on at step %d: moved %s to %s", path, step, what, aside)
    content = b"".join(line.content for line in kept)
    if path.exists() and path.read_bytes() != content:
        write_whole(path, content)
    return [line.row for line in kept]


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, empty where there is no file."""
    try:
        found = parsed(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{path} is not JSON: remove it and make it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds something else: remove it and make it again")
    return found


def message_of(path: Path) -> str:
    """The message of a record such as `diverged.json`; empty where there is none."""
    message = read_object(path).get("message", "")
    if not isinstance(message, str):
        raise InputError(f"{path} holds something else: remove it")
    return message
