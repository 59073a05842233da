"""One writer at a time: a lock on a folder, held while its process writes there.

The lock is `flock`'s, on a file of the folder that says who holds it. The kernel lets
go of it when the process ends, however it ends, and NFS hands it on to other hosts.
Buckets and some file systems have no locks: there nothing keeps two writers apart.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.runtime.storage import SCRATCH, is_remote

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl: Any = None

log = logging.getLogger(__name__)
NAME = "lock"
DAY = 24 * 3600  # seconds
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Held(InputError):
    """Another process has the lock; `holder` says which, without what to do."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{holder}: wait for it or stop it, or give another --workdir")


class Lock:
    """The lock of a folder that exists; Held where another process has it.

    A folder that cannot be written is not locked: nothing can be damaged there.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._file = folder / NAME, None
        if fcntl is None or is_remote(folder):
            return
        while self._file is None:
            file = open_lock(self._path)
            if file is None:
                return
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(file)
                if error.errno in TAKEN:
                    raise Held(who_holds(self._path)) from None
                log.warning("%s has no locks: let one process at a time write", folder)
                return
            if current(file, self._path):
                self._file = file
            else:  # its holder removed it while it was opened here
                os.close(file)
        sign(self._file)

    def release(self) -> None:
        """Lets go; the file is removed while the lock is still held."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The lock of the folder while entered."""
    lock = Lock(folder)
    try:
        yield
    finally:
        lock.release()


def open_lock(path: Path) -> int | None:
    """The lock's file, made if need be; None where the folder cannot be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return None
        raise


def current(file: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def sign(file: int) -> None:
    """Writes into the lock who holds it, for the message that others get."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    with contextlib.suppress(OSError):  # a full disk, say: the lock holds all the same
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder).encode(), 0)


def who_holds(path: Path) -> str:
    """Who holds the lock."""
    try:
        holder = json.loads(path.read_text("utf-8"))
        who = f"process {holder['process']} on {holder['host']}, since "
        who += f"{holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "it has not said which"
    return f"another process writes to {path.parent} ({who})"


@contextlib.contextmanager
def scratch(home: Path) -> Iterator[Path]:
    """A folder of one's own to make something in, removed at the end.

    Before, those that killed processes left there are removed: older than a day, and
    no longer locked by who made them.
    """
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{SCRATCH}*"):
        if time.time() - left.lstat().st_mtime > DAY and (file := lone(left)):
            shutil.rmtree(left, ignore_errors=True)
            os.close(file)
    made = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=home))
    file = lone(made)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if file is not None:
            os.close(file)


def lone(folder: Path) -> int | None:
    """The folder, opened and locked; None where another has it, or has no locks."""
    if fcntl is None or not folder.is_dir():
        return None
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file
