"""`manifest.json` of a shared folder: its files, and the digest of each.

The files that a folder holds beside these are never opened. Digests tell damaged and
edited files; whoever rewrites the manifest as well is told by the revision of a hub.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vaejax.data.stored import read_record
from vaejax.errors import InputError
from vaejax.runtime.jsonlines import parsed, whole_number

NAME = "manifest.json"
PARAMETERS = "params.safetensors"
CONFIG = "config.json"
CARD = "card.json"
NEEDED = (CONFIG, PARAMETERS)
"""Files without which nothing can be loaded."""
FORMAT = 1


class Listed(NamedTuple):
    """A file as it was written."""

    bytes: int
    sha256: str


class Manifest(NamedTuple):
    """The content of a shared folder."""

    format: int
    vaejax: str
    """Version that wrote the folder."""
    step: int
    """Step of training that the parameters are of."""
    files: Mapping[str, Listed]
    """By path inside the folder."""


def is_of_hub(name: str | os.PathLike[str]) -> bool:
    """Whether it is an address of a hub, hf://owner/name, and no path."""
    return isinstance(name, str | os.PathLike) and os.fspath(name).startswith("hf:/")


def hub_address(name: str | os.PathLike[str]) -> str:
    """An address or path as its user wrote it: a `Path` makes one slash of two."""
    return re.sub("^hf:/+", "hf://", os.fspath(name))


def is_shared(folder: Path) -> bool:
    """Whether a folder was written by `share.py`, complete or not: it is no run."""
    return any((folder / name).is_file() for name in (NAME, PARAMETERS))


def refuse_shared(folder: Path, remedy: str) -> None:
    """InputError where a folder is a shared one, or an address of the hub: these are
    read and never written to, and keep no log.
    """
    if is_of_hub(folder) or is_shared(folder):
        raise InputError(
            f"{hub_address(folder)} is a shared model, not a run: {remedy}"
        )


def manifest_of(folder: Path, version: str, step: int) -> Manifest:
    """The manifest of a folder's files, all of them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): listed_as(path) for path in files}
    return Manifest(FORMAT, version, step, listed)


def manifest_json(manifest: Manifest) -> dict[str, Any]:
    """The content of `manifest.json`."""
    files = {name: each._asdict() for name, each in manifest.files.items()}
    return manifest._asdict() | {"files": files}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; no other file is opened.

    Raises:
      InputError: it is missing, damaged, or of a newer format.
    """
    path = folder / NAME
    try:
        found = parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{folder} has {PARAMETERS} and no {NAME}: get the whole folder again"
        ) from None
    except ValueError:
        raise InputError(f"{path} is not JSON: get the folder again") from None
    if not isinstance(found, dict) or not whole_number(found.get("format")):
        raise InputError(f"{path} is not that of a shared model")
    if found["format"] > FORMAT:
        raise InputError(
            f"{folder} was shared by a newer vaejax: upgrade with "
            "`pip install --upgrade vaejax`"
        )
    try:
        files = read_files(found.get("files"))
        manifest = read_record(Manifest, {**found, "files": {}}, "it")
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return manifest._replace(files=files)


def read_files(found: Any) -> dict[str, Listed]:
    """The listed files; InputError where one would be outside of the folder."""
    if not isinstance(found, dict) or not set(NEEDED) <= found.keys():
        raise InputError(f"it must list {' and '.join(NEEDED)}")
    for name in found:
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\0" in name or not name:
            raise InputError(f"it lists {name[:60]!r}, which is outside of the folder")
    return {name: read_record(Listed, each, name) for name, each in found.items()}


def check_files(folder: Path, manifest: Manifest) -> None:
    """InputError where a file is not as it was written, or a needed one is missing.

    Others, as pictures, may be absent: whoever copies a folder can leave them out.
    """
    for name, listed in manifest.files.items():
        path = folder / name
        if not path.is_file():
            if name in NEEDED:
                raise InputError(f"{folder} has no {name}: get the whole folder again")
            continue
        if path.stat().st_size != listed.bytes or listed_as(path) != listed:
            remedy = "" if name in NEEDED else ", or remove that file"
            raise InputError(
                f"{path} is not what was shared (its digest differs from that of "
                f"{NAME}): get the folder again{remedy}"
            )


def listed_as(path: Path) -> Listed:
    """A file's size and digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Listed(path.stat().st_size, digest)


def missing_or_unexpected(wanted: Iterable[str], there: Iterable[str]) -> str:
    """Names that one side has alone, a few of them; empty where there are none."""
    wanted, there = set(wanted), set(there)
    found = {"missing": wanted - there, "unexpected": there - wanted}
    return "; ".join(
        f"{len(names)} {what}: {some_of(sorted(names))}"
        for what, names in found.items()
        if names
    )


def some_of(names: list[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
