"""Splits of images as a data set: decoded into memory, or decoded while they stream."""

import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaejax.data.dataset import Arrays, Dataset, describe, streamed
from vaejax.data.examples import Examples, Warned
from vaejax.data.reading import Reading
from vaejax.data.records import Subset
from vaejax.data.spec import Factor, Spec
from vaejax.data.splits import TEST_SHARE, held_rows
from vaejax.errors import InputError

_CHUNK, _SLOW = 1000, 20_000
_LOOKED_AT = 64
"""Images of a split by which it is seen to be black and white."""


def dataset_of(
    name: str,
    splits: Mapping[str, Examples],
    classes: int,
    reading: Reading,
    parts: Sequence[Any],
    factors: tuple[Factor, ...] = (),
) -> Dataset:
    """The data set of these splits.

    `parts` are what identifies the stored content where it is not read. Without a test
    split a tenth is held out as such.
    """
    if "train" not in splits:
        raise InputError(f"{name!r} has no training split: choose another set")
    if "test" not in splits:
        splits = {**splits, **halved(splits["train"], TEST_SHARE, 0, name, "test")}
    shape = splits["train"].frame.shape
    if reading.streams(len(splits["train"]), shape):
        return stream(name, splits, classes, parts, factors)
    arrays = images_in_memory(name, splits)
    classes = classes if "y" in arrays["train"] else 0
    return describe(name, arrays, classes, factors=factors)


def halved(
    examples: Examples, share: float, purpose: int, name: str, held: str
) -> dict[str, Examples]:
    """The rest of the training split, and the examples held out as the split `held`."""
    kept, out = held_rows(len(examples), share, purpose, repr(name))
    return {
        split: dataclasses.replace(examples, records=Subset(examples.records, rows))
        for split, rows in (("train", kept), (held, out))
    }


def images_in_memory(name: str, splits: Mapping[str, Examples]) -> dict[str, Arrays]:
    """All examples, `x` as `[N, H, W, C]`."""
    count = sum(map(len, splits.values()))
    if count >= _SLOW:
        print(f"Decoding {count} examples of {name}, once ...", file=sys.stderr)
    warned = Warned()
    return labelled(
        {split: all_examples(each, warned) for split, each in splits.items()}
    )


def labelled(splits: dict[str, Arrays]) -> dict[str, Arrays]:
    """TFDS writes -1 where a split has no labels: then no split has any here."""
    if all(arrays["y"].min() >= 0 for arrays in splits.values() if "y" in arrays):
        return splits
    return {
        split: {key: array for key, array in arrays.items() if key != "y"}
        for split, arrays in splits.items()
    }


def all_examples(examples: Examples, warned: Warned) -> Arrays:
    """All examples of a split, shaped."""
    parts: list[Arrays] = []
    for start in range(0, len(examples), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(examples)))
        arrays, notes = examples.read(rows)
        warned.warn(notes)
        parts.append(arrays)
    merged = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return merged | {"x": merged["x"].reshape(-1, *examples.frame.shape)}


def stream(
    name: str,
    splits: Mapping[str, Examples],
    classes: int,
    parts: Sequence[Any],
    factors: tuple[Factor, ...] = (),
) -> Dataset:
    """A data set whose examples are decoded when they are needed."""
    has_y = all(each.labelled and label_of(each) >= 0 for each in splits.values())
    one = common_one(list(splits.values()))
    splits = {
        split: dataclasses.replace(each, labelled=has_y, one=one)
        for split, each in splits.items()
    }
    frame = splits["train"].frame
    spec = Spec(
        name=name,
        kind="image",
        shape=frame.shape,
        levels=2 if one else 256,
        classes=classes if has_y else 0,
        sizes={split: len(each) for split, each in splits.items()},
        digest=files_digest([*parts, frame.size, frame.crop]),
        streams=True,
        factors=factors,
    )
    return streamed(spec, splits)


def label_of(examples: Examples) -> int:
    """The first label: negative where a split has none."""
    return examples.example(0)[1].label


def common_one(splits: Sequence[Examples]) -> int:
    """The level of ones, by some images of each split; 0 where they are grey."""
    levels: set[int] = set()
    for examples in splits:
        last = len(examples) - 1
        for row in np.unique(np.linspace(0, last, _LOOKED_AT).astype(int)).tolist():
            levels |= set(np.unique(examples.example(row)[0]).tolist())
    return next((one for one in (1, 255) if levels <= {0, one}), 0)


def files_digest(parts: Sequence[Any]) -> str:
    """blake2b of what can be known of the content without reading it."""
    return hashlib.blake2b(repr(list(parts)).encode(), digest_size=16).hexdigest()
