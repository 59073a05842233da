"""Results of chunks of examples, kept so that a stopped measurement goes on."""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax.apply.rows import write_npz
from vaejax.data.arrays import read_npz
from vaejax.errors import InputError
from vaejax.types import Variables

FORMAT = 1
DIGEST = "digest"
"""Entry of a chunk's file that says what its numbers are of."""


class Chunks:
    """The folder of a run's laboratory; without one nothing is kept.

    A file holds the numbers of a chunk, arrays alone, with a digest of all that they
    follow from: settings, parameters and examples. One with another digest is measured
    again.
    """

    def __init__(self, folder: Path | None, variables: Variables) -> None:
        self._folder = folder
        self._variables = tree_digest(variables) if folder else ""

    def digest(self, settings: Mapping[str, Any], given: Any) -> str:
        """Digest of what a chunk's numbers follow from; empty without a folder."""
        if self._folder is None:
            return ""
        words = json.dumps({"format": FORMAT, **settings}, sort_keys=True)
        whole = f"{words} {self._variables} {tree_digest(given)}"
        return hashlib.sha256(whole.encode()).hexdigest()

    def read(self, name: str, number: int, digest: str) -> dict[str, np.ndarray] | None:
        """The numbers of a chunk, where they are there and of the same digest."""
        if self._folder is None or not (place := self._place(name, number)).exists():
            return None
        try:
            arrays = read_npz(place)
        except InputError:
            print(f"{place} is damaged: it is measured again", file=sys.stderr)
            return None
        return arrays if str(arrays.pop(DIGEST, "")) == digest else None

    def write(
        self, name: str, number: int, digest: str, found: Mapping[str, np.ndarray]
    ) -> None:
        """Keeps the numbers of a chunk."""
        if self._folder is None:
            return
        place = self._place(name, number)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_npz(place, {**found, DIGEST: np.array(digest)})

    def _place(self, name: str, number: int) -> Path:
        assert self._folder is not None
        return self._folder / name / f"{number:05}.npz"


def tree_digest(tree: Any) -> str:
    """Digest of the names, types, shapes and values of a tree of arrays."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        kind = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        found.update(kind.encode())
        found.update(array.tobytes())
    return found.hexdigest()
