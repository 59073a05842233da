"""The arrays of an .npz file as its headers declare them, before any is read."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from vaejax.runtime.memory import check_fits


def read_arrays(place: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; it is read once their sizes are known, and not unpickled.

    Raises:
      InputError: they are larger than the memory.
      OSError, ValueError, BadZipFile: as NumPy does for a file that is none.
    """
    # Opened here, since NumPy does not close what it cannot read.
    with place.open("rb") as stream:
        check_sizes(stream, place)
        with np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def check_sizes(stream: IO[bytes], place: Path) -> None:
    """InputError where the arrays are larger than the memory, by their headers.

    A file of some kB may declare terabytes: NumPy would take them before it reads.

    Raises:
      InputError: so much memory is not there.
      ValueError, BadZipFile: as NumPy does for a file that is none.
    """
    start = stream.tell()
    with zipfile.ZipFile(stream) as archive:
        needed = sum(declared(archive, name) for name in archive.namelist())
    stream.seek(start)
    check_fits(needed, f"the arrays of {place}", "give fewer examples")


def declared(archive: zipfile.ZipFile, name: str) -> int:
    """Bytes of one array."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(name) as member:
        if member.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return archive.getinfo(name).file_size  # NumPy gives its bytes
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        shape, _, dtype = readers.get(version, readers[2, 0])(member)
    return math.prod(shape) * dtype.itemsize
