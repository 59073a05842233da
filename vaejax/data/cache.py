"""Decoded data sets, kept as plain arrays beside the prepared set.

A cache is a folder `vaejax` of `x_<split>.npy`, `y_<split>.npy` (and other entries
alike) and `spec.json`. It is written elsewhere and renamed, so that it is whole or
absent, whoever is killed and however many write at once. One that cannot be read, or
whose arrays do not have its digest, is made again.
"""

import functools
import json
import logging
from pathlib import Path

import numpy as np

from vaejax.data.dataset import Arrays, Dataset, arrays_digest, in_memory
from vaejax.data.kinds import kind_of
from vaejax.data.places import publish, roots, writable
from vaejax.data.spec import Spec
from vaejax.runtime.lock import scratch

log = logging.getLogger(__name__)


def load_cached(folder: Path, size: int = 0) -> Dataset | None:
    """The cached content of a prepared set, or None; tables in their own units.

    `size` is that to which images were resized, if they were.
    """
    for place in _places(folder, size):
        found = read_cache(place)
        if found and not _lacks_factors(place, folder):
            return found
    return None


def _lacks_factors(place: Path, folder: Path) -> bool:
    """Whether a cache is older than known factors, of a set that has some."""
    if "factors" in json.loads((place / "spec.json").read_text()):
        return False
    features = folder / "features.json"
    return features.is_file() and features.read_text().count('"label_') > 1


def read_cache(place: Path, named: bool = False) -> Dataset | None:
    """The content of a cache, or None; `named` where its digest is of names, too."""
    try:
        return _read(place, named)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None  # absent or damaged


def write_cache(place: Path, dataset: Dataset) -> bool:
    """Whether the set could be cached there."""
    if not writable(place.parent):
        return False
    try:
        _write(place, dataset)
    except OSError:
        return False  # a full disk, say: the cache is a convenience
    return True


def save(folder: Path, dataset: Dataset, size: int = 0) -> Dataset:
    """Caches where it can and returns the set, which is used uncached otherwise."""
    any(write_cache(place, dataset) for place in _places(folder, size))
    return dataset


def _places(folder: Path, size: int) -> list[Path]:
    """Beside the data and, where that cannot be written, in the user's cache."""
    data_dir, fallback = roots()
    own = f"vaejax-{size}" if size else "vaejax"
    if folder.is_relative_to(fallback):
        return [folder / own]
    inside = folder.relative_to(data_dir)
    return [folder / own, fallback / inside / own]


def _read(place: Path, named: bool) -> Dataset:
    fields = json.loads((place / "spec.json").read_text())
    if fields["classes"] and "names" not in fields:
        raise KeyError("names")  # older than names of classes: decoded once more
    spec = Spec.from_json(fields)
    splits = {split: _read_split(place, spec, split) for split in spec.sizes}
    written = max(path.stat().st_mtime_ns for path in place.iterdir())
    if _digest_of(place, written, named) != spec.digest:
        log.warning("%s is damaged: the set is decoded once more", place)
        raise ValueError(f"{place} is damaged")
    return in_memory(spec, splits)


@functools.lru_cache(maxsize=64)
def _digest_of(place: Path, written: int, named: bool) -> str:
    """The digest of the arrays, read once by a process: a second for each GB or so.

    `written` is when they were: another cache of that name has a digest of its own.
    """
    spec = Spec.from_json(json.loads((place / "spec.json").read_text()))
    splits = {split: _read_split(place, spec, split) for split in spec.sizes}
    # Names of classes are those of a prepared set, and not of its digest.
    return arrays_digest(spec.shape, splits, spec.names if named else ())


def _read_split(place: Path, spec: Spec, split: str) -> Arrays:
    count, width = spec.sizes[split], int(np.prod(spec.shape))
    stored = kind_of(spec).stored
    x = _read_array(place / f"x_{split}.npy", (count, width), stored)
    arrays = {"x": x}
    if spec.classes:
        arrays["y"] = _read_array(place / f"y_{split}.npy", (count,), np.int32)
    if spec.factors:
        shape = (count, len(spec.factors))
        arrays["factors"] = _read_array(place / f"factors_{split}.npy", shape, np.int32)
    if spec.masked:
        mask = place / f"mask_{split}.npy"
        arrays["mask"] = _read_array(mask, (count, width), np.uint8)
    return arrays


def _read_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path} does not hold {dtype} {shape}")
    return np.asarray(array)


def _write(place: Path, dataset: Dataset) -> None:
    with scratch(place.parent) as made:
        made.chmod(0o755)  # it is private so far; a data directory may be shared
        for split in dataset.spec.sizes:
            for key, array in dataset.split(split).items():
                np.save(made / f"{key}_{split}.npy", array, allow_pickle=False)
        (made / "spec.json").write_text(json.dumps(dataset.spec.to_json()))
        _clear(place)
        publish(made, place)


def _clear(place: Path) -> None:
    """Removes a damaged cache, out of sight first, so that none is seen in part."""
    if not place.exists():
        return
    with scratch(place.parent) as bin_:
        place.rename(bin_ / "damaged")
