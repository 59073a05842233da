"""Files and folders, of this machine or of a bucket: `gs://` and `s3://` paths."""

import importlib.util
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from vaejax.data.quiet import one_line
from vaejax.errors import InputError

LIBRARIES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
"""The library that reads each kind of bucket, and the extra that installs it."""
SCRATCH = ".vaejax-"
"""Prefix of files and folders that are not complete yet."""


def path_of(name: str | os.PathLike[str]) -> Path:
    """The path of that name; one of a bucket does what a `Path` does.

    InputError where the library for such buckets is not installed.
    """
    if not isinstance(name, str | os.PathLike):
        what = type(name).__name__
        raise InputError(f"a path is of type {what}: give the name of a folder or file")
    if "\0" in str(name):
        raise InputError("a path holds the character 0, which no name of a file does")
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
    """Writes a file whole or not at all; a text as UTF-8."""
    with written_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name once it is complete, or leaves no trace.

    It grows under a name of its own in the same folder, so that no other file is
    touched. Objects of a bucket are complete or absent anyway; what is no regular file
    (a pipe, a device) is written to directly. InputError where the path is a folder.
    """
    if is_remote(path):
        content = io.BytesIO()
        yield content
        path.write_bytes(content.getvalue())
        return
    place = Path(os.path.realpath(path))  # a link stays one
    if place.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    if place.exists() and not place.is_file():
        with place.open("wb") as file:
            yield file
        return
    scratch = place.with_name(f"{SCRATCH}{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            shutil.copymode(place, scratch)
        os.replace(scratch, place)
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name once it is complete, or leaves no trace.

    One of that name must be empty. OSError where it cannot be made.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{SCRATCH}{secrets.token_hex(8)}")
    made.mkdir()
    try:
        yield made
        made.rename(path)  # takes the place of an empty one
    finally:
        shutil.rmtree(made, ignore_errors=True)


NAMES_OF_FILES = (".png", ".jpg", ".pdf", ".svg", ".csv", ".npz", ".json", ".html")


def check_folder(out: Path) -> None:
    """InputError where `out`, a folder to write into, is a file or named like one."""
    named = out.suffix.lower() in NAMES_OF_FILES and not out.is_dir()
    if named or out.is_file():
        raise InputError(f"--out {out}: give a folder, and not a file")


def check_new_folder(out: Path) -> None:
    """InputError where `out` is no folder that is empty or that can be made."""
    check_folder(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: give a folder that is empty or not there")


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
    """Turns errors on the way to a bucket (credentials, say) into an InputError."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever a cloud's libraries raise
        if not is_remote(path):
            raise
        raise InputError(f"cannot reach {path} ({one_line(error)})") from error
