"""What a shared folder must not tell: where files lay, and who the user is."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from vaejax.errors import InputError

FILES = re.compile(r"(\w+):(?!:)(.+)", re.DOTALL)
"""Names of data sets that are files or folders, as `npz:PATH`."""
ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]|\w+://")
"""Start of an absolute path, or of the address of a bucket."""
LOCAL = ("npz", "csv", "folder", "latents")
"""Kinds of data sets whose names are paths, relative ones among them."""
READ = (".json", ".md")
"""Ends of the files that hold texts."""


def public_name(name: str) -> str:
    """The name of a data set without the folders that its file is in.

    `npz:/home/ann/faces.npz` is `npz:faces.npz`, which the digest tells from others;
    names of catalogues stay.
    """
    found = FILES.fullmatch(name)
    if found and (found[1] in LOCAL or ABSOLUTE.match(found[2])):
        return f"{found[1]}:{last_part(found[2])}"
    return last_part(name) if ABSOLUTE.match(name) else name


def last_part(path: str) -> str:
    """The name of a file or folder, without what leads there."""
    return PurePath(path.replace("\\", "/")).name or "data"


def public_record(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A JSON object in which data sets of these names, and settings and sources of
    parameters that are absolute paths, have lost their folders.
    """
    places = {}
    for name in names:
        found = FILES.fullmatch(name)
        if public_name(name) != name:
            places[name] = public_name(name)
            places |= {found[2]: last_part(found[2])} if found else {}
    longest = sorted(places, key=len, reverse=True)

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: without(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [without(each) for each in value]
        if isinstance(value, str):
            for place in longest:
                value = value.replace(place, places[place])
        return value

    public = without(record)
    for group in ("arguments", "settings"):
        for setting, value in public.get(group, {}).items():
            if isinstance(value, str):
                public[group][setting] = public_name(value)
    for start in public.get("starts", ()):
        source = start.get("init_from", "hf:/")
        if not source.startswith("hf:/"):  # an address of the hub is public
            start["init_from"] = public_name(source)
    return public


def check_private(folder: Path, *places: Path) -> None:
    """InputError where a text of a folder still tells where the user's files are.

    Names of columns and classes are copied as they are, and can hold anything.
    """
    told = {str(place) for each in places for place in (each, each.resolve())}
    # A path such as / or /a is in too many texts to say anything.
    told = {place for place in told if place.startswith("/") and len(place) > 3}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in READ:
            continue
        text = path.read_text("utf-8")
        for place in told:
            if place in text or json.dumps(place)[1:-1] in text:
                raise InputError(
                    f"{path.name} would tell others the path {place}, which a name of "
                    "a column, a class or a setting holds: rename it, and train again"
                )
