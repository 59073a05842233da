"""Folders of pictures: `folder:PATH`, whose sub-folders are labels, or splits."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vaejax.data.cache import read_cache, write_cache
from vaejax.data.classes import MOST, WHOLE
from vaejax.data.dataset import Arrays, Dataset
from vaejax.data.kinds import require_images
from vaejax.data.listing import (
    Entry,
    Listing,
    class_entries,
    listing,
    plain_name,
    printable,
)
from vaejax.data.places import user_cache
from vaejax.data.reading import Reading
from vaejax.data.records import Record
from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.runtime.storage import absolute, is_remote

MANY = 1000
"""Pictures from which on their arrays are cached."""


@dataclasses.dataclass(frozen=True)
class FolderPictures:
    """The pictures of one split of a folder."""

    root: str
    names: tuple[str, ...]
    labels: np.ndarray
    remedy: str = "mend or remove it"

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Sequence[int]) -> list[Record]:
        root = Path(self.root)
        return [
            Record((root / self.names[row]).read_bytes(), int(self.labels[row]))
            for row in rows
        ]

    def file(self, row: int) -> BinaryIO:
        return (Path(self.root) / self.names[row]).open("rb")

    def where(self, row: int) -> str:
        return printable(os.path.join(self.root, self.names[row]))


def open_folder(path: str, reading: Reading) -> Dataset:
    """The data set of a folder; InputError where it holds no pictures, or more than
    pictures in one of the forms of `vaejax.data.listing`.
    """
    root = absolute(path)
    if is_remote(root):
        raise InputError(f"{root} is in a bucket: copy it here first")
    found = listing(root)
    name = f"folder:{root}"
    if sum(map(len, found.splits.values())) < MANY:
        return read_folder(name, root, found, reading)
    place = cache_of(root, found, reading)
    cached = read_cache(place, named=True)
    if cached and not reading.streams(cached.spec.sizes["train"], cached.spec.shape):
        return cached._replace(spec=cached.spec._replace(name=name))
    dataset = read_folder(name, root, found, reading)
    # Not kept where some pictures may stand for others unnoticed.
    if not dataset.spec.streams and not reading.skip and write_cache(place, dataset):
        for older in {*place.parent.parent.iterdir()} - {place.parent}:
            shutil.rmtree(older, ignore_errors=True)
    return dataset


def read_folder(name: str, root: Path, found: Listing, reading: Reading) -> Dataset:
    """The data set of these pictures."""
    from vaejax.data.gallery import pictures_dataset  # loads PIL

    labels, names = with_indices(found.splits)
    pictures = {
        split: FolderPictures(str(root), tuple(e.name for e in entries), labels[split])
        for split, entries in found.splits.items()
    }
    files = [each[:3] for each in files_of_pictures(root, found)]
    return pictures_dataset(name, pictures, names, reading, files, found.remarks)


def files_of_pictures(root: Path, found: Listing) -> list[tuple[Any, ...]]:
    """Split, name, size in bytes and time of writing of each picture."""
    files = []
    for split, entries in found.splits.items():
        for entry in entries:
            try:
                facts = (root / entry.name).stat()
                size, written = facts.st_size, facts.st_mtime_ns
            except OSError:  # a link to nothing, of which is said later
                size = written = -1
            files.append((split, plain_name(entry.name), size, written))
    return files


def cache_of(root: Path, found: Listing, reading: Reading) -> Path:
    """The place of the arrays of these files as they are now: in the user's cache, by
    the folder, by its content and by the size to which pictures are resized.
    """
    content = repr((version("pillow"), found, files_of_pictures(root, found)))
    keys = [
        hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8)
        for text in (str(root), content)
    ]
    inside = [key.hexdigest() for key in keys]
    return user_cache().joinpath("folders", *inside, str(reading.size))


def with_indices(
    splits: Mapping[str, Sequence[Entry]],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels by their places among the names, in ascending order; and these names."""
    texts = {split: [e.label for e in entries] for split, entries in splits.items()}
    distinct = {text for own in texts.values() for text in own if text}
    numbers = all(WHOLE.fullmatch(text) and int(text) < MOST for text in distinct)
    names = sorted(distinct, key=int) if numbers else sorted(distinct)
    place = {name: number for number, name in enumerate(names)} | {"": 0}
    found = {
        split: np.array([place[text] for text in own], np.int32)
        for split, own in texts.items()
    }
    return found, tuple(names)


def read_own_folder(root: Path, spec: Spec, reading: Reading) -> Arrays:
    """The pictures of a folder for a trained model: `x` uint8 `[N, H, W, C]`, in the
    order of their names, and, where they are in folders that are classes, `y` `[N]`.

    `reading` is that of training. InputError where they are unlike those of training.
    """
    from vaejax.data.gallery import pictures_like

    require_images(spec, f"a folder of pictures, {printable(str(root))},")
    entries, _ = class_entries(root)
    names = tuple(entry.name for entry in entries)
    labels = np.zeros(len(names), np.int32)
    pictures = FolderPictures(str(root), names, labels)
    arrays = {"x": pictures_like(pictures, spec, reading, str(root))}
    if spec.classes and entries[0].label:
        arrays["y"] = spec.label_index([entry.label for entry in entries])
    return arrays
