"""Folders of data sets, found without TFDS.

TFDS keeps a prepared set in `<data_dir>/<name>[/<config>]/<version>`. Beside the data
directory there is a fallback in the user's cache, laid out alike, for what cannot be
written into it. Sets of a data directory in a bucket are copied there when they are
first opened, since the reader of array_record files knows no buckets.
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from vaejax.data.builders import VERSIONS
from vaejax.data.grids import GRIDS, folder_name, plain_subset
from vaejax.errors import InputError
from vaejax.runtime.lock import scratch
from vaejax.runtime.storage import absolute, copy_folder, is_remote, reached

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_ADDRESS = re.compile(rf"(\w+)(?:/([\w.\-=,+]+))?(?::({_VERSION.pattern}))?")


class Address(NamedTuple):
    """A parsed TFDS name: "name", "name/config", "name:1.0.0".

    The config of a grid of ours is a subset, in its one plain form.
    """

    name: str
    config: str | None
    version: str | None

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return self.name + config + (f":{self.version}" if self.version else "")


def parse_name(name: str) -> Address:
    """Reads a name; ours are always of the version which this library prepares."""
    match = _ADDRESS.fullmatch(name)
    if match is None:
        hint = hint_of(name)
        raise InputError(f"{name!r} is no data set name such as 'mnist_5k'{hint}")
    address = Address(*match.groups())
    ours = VERSIONS.get(address.name)
    if ours and address.version not in (None, ours):
        raise InputError(f"{address.name!r} has one version, {ours}")
    if address.name in GRIDS:
        subset = plain_subset(address.name, address.config or "")
        return address._replace(config=subset or None, version=ours)
    if ours and address.config:
        raise InputError(f"{address.name!r} has no configs: give its name alone")
    return address._replace(version=ours or address.version)


def hint_of(name: str) -> str:
    """The form in which a file or folder of that name is given, if it is one."""
    for end, form in ((".npz", "npz"), (".csv", "csv"), (".csv.gz", "csv")):
        if name.endswith(end):
            return f"; for a file write '{form}:{name}'"
    known = os.path.isdir(os.path.expanduser(name))
    return f"; for a folder of pictures write 'folder:{name}'" if known else ""


def roots() -> tuple[Path, Path]:
    """TFDS's data directory, and the fallback for it in the user's cache.

    Where the data directory is in a bucket, the fallback stands for it.
    """
    given = data_dir()
    key = hashlib.blake2b(str(given).encode(), digest_size=8).hexdigest()
    fallback = user_cache() / key
    return fallback if is_remote(given) else given, fallback


def user_cache() -> Path:
    """The folder of this library in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "vaejax"


def data_dir() -> Path:
    """The data directory as it was given."""
    return absolute(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def find(address: Address) -> Path | None:
    """The folder of a prepared set, of the newest version unless one is asked for.

    One in a bucket is copied first.
    """
    for root in roots():
        if folder := _found(root, address):
            return folder
    given = data_dir()
    if not is_remote(given):
        return None
    with reached(given):
        folder = _found(given, address)
        return (
            _copied(folder, roots()[0] / folder.relative_to(given)) if folder else None
        )


def _found(root: Path, address: Address) -> Path | None:
    versions = _versions(_base(root, address))
    if address.version is not None or not versions:
        return versions.get(address.version or "")
    return versions[max(versions, key=_numbers)]


def _copied(folder: Path, place: Path) -> Path:
    if place.is_dir():
        return place
    print(f"Copying {folder} to {place}, once ...", file=sys.stderr)
    with scratch(place.parent) as made:
        copy_folder(folder, made / folder.name)
        publish(made / folder.name, place)
    return place


def writable(folder: Path) -> bool:
    """Whether files can be made there, or folders up to there.

    A folder without write bits is left alone even by root, who could write to it.
    """
    while not folder.exists():
        folder = folder.parent
    shut = folder.stat().st_mode & 0o222 == 0
    return folder.is_dir() and not shut and os.access(folder, os.W_OK)


def publish(made: Path, place: Path) -> None:
    """Moves a finished folder into place in one step; if another is there, it stays."""
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _base(root: Path, address: Address) -> Path:
    base = root / address.name
    config = address.config
    if config and address.name in GRIDS:
        return base / folder_name(config)
    # TFDS notes there which config a bare name means.
    note = base / ".config" / "metadata.json"
    if config is None and note.is_file():
        config = default_config(note)
    return base / config if config else base


def default_config(note: Path) -> str:
    """The config that TFDS noted as the one that a bare name means."""
    try:
        config = json.loads(note.read_text("utf-8"))["default_config_name"]
    except (ValueError, KeyError, TypeError):
        config = None
    if not isinstance(config, str):
        raise InputError(
            f"{note} names no default_config_name: it is damaged; name the config, as "
            "NAME/CONFIG, or delete the file and prepare the set again"
        )
    return config


def _versions(base: Path) -> dict[str, Path]:
    if not base.is_dir():
        return {}
    infos = (folder / "dataset_info.json" for folder in base.iterdir())
    folders = [info.parent for info in infos if info.is_file()]
    return {f.name: f for f in folders if _VERSION.fullmatch(f.name)}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))
