"""Files and folders, of this machine or of a bucket: `gs://` and `s3://` paths."""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from vaejax.data.quiet import one_line
from vaejax.errors import InputError

LIBRARIES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""What reads each kind of bucket, and the extra that brings it."""


def path_of(name: str | os.PathLike[str]) -> Path:
    """The path of that name; one of a bucket does what a `Path` does.

    InputError where the library for such buckets is not installed.
    """
    # A `Path` has made one slash of the two.
    found = re.match(r"(gs|s3):/+", os.fspath(name))
    if not found:
        return Path(name)
    library, extra = LIBRARIES[found[1]]
    address = f"{found[1]}://{os.fspath(name)[found.end() :]}"
    if importlib.util.find_spec(library) is None:
        raise InputError(f"{address} needs {library}: pip install 'vaejax[{extra}]'")
    from etils import epath  # not needed for local paths

    return cast(Path, epath.Path(address))


def is_remote(path: Path) -> bool:
    """Whether it is of a bucket."""
    return "://" in str(path)


def absolute(name: str | os.PathLike[str]) -> Path:
    """The path of that name from the root, with `~` as the user's home."""
    path = path_of(name)
    return path if is_remote(path) else path.expanduser().absolute()


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, as every object of a bucket is written."""
    content = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(content)
        return
    scratch = path.with_suffix(".tmp")
    scratch.write_bytes(content)
    os.replace(scratch, path)


def copy_folder(source: Path, place: Path) -> None:
    """Copies the files of a folder of a bucket, and of the folders in it."""
    place.mkdir(parents=True, exist_ok=True)
    for each in source.iterdir():
        if each.is_dir():
            copy_folder(each, place / each.name)
            continue
        with each.open("rb") as read, (place / each.name).open("wb") as written:
            shutil.copyfileobj(read, written, 2**22)


@contextmanager
def reached(path: Path) -> Iterator[None]:
    """What goes wrong on the way to a bucket (credentials, say) as an InputError."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever a cloud's libraries raise
        if not is_remote(path):
            raise
        raise InputError(f"cannot reach {path} ({one_line(error)})") from error
