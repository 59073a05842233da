"""Which features of a TFDS set are read, and whether they can be."""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from tensorflow_datasets.core import dataset_info
from tensorflow_datasets.core import features as tfds_features

from vaejax.data.classes import names_unless_numbers
from vaejax.data.pictures import Frame, frame_of
from vaejax.data.reading import LIMIT, Reading
from vaejax.data.spec import Factor
from vaejax.errors import InputError

SPLITS = ("train", "validation", "test")


class Roles(NamedTuple):
    """The entries that are read from each example."""

    x: str
    """The feature of images, or of numbers."""
    y: str | None
    """The feature of labels."""
    shape: tuple[int, ...]
    """Of `x` in one example."""
    frame: Frame | None
    """How images become examples; None for tables."""
    classes: int
    names: tuple[str, ...]
    """The names of classes; none where they have numbers only."""
    skip: tuple[str, ...]
    """Other images, which need not be decoded."""
    factors: tuple[Factor, ...] = ()
    """Known factors of variation: `label_NAME` is the feature of each."""


def choose_features(features: Any, name: str, reading: Reading = Reading()) -> Roles:
    """An image, else the vector `features`; and a label, of a TFDS `FeaturesDict`.

    Of several, "image" and "label" go first and then the alphabet decides, since a
    stored set does not keep the order its features were declared in.
    Beside images, two or more labels `label_NAME` are known factors of variation.
    InputError where there is neither, or where images differ in size and are to be
    kept as they are.
    """
    named = isinstance(features, tfds_features.FeaturesDict)
    by_name: dict[str, Any] = dict(features.items()) if named else {}
    images = _of(by_name, tfds_features.Image, "image")
    table = isinstance(by_name.get("features"), tfds_features.Tensor)
    labels = _of(by_name, tfds_features.ClassLabel, "label")
    if not images and not table:
        there = ", ".join(sorted(by_name)) or "unnamed ones"
        raise InputError(
            f"{name!r} has neither images nor a float vector 'features': it has {there}"
        )
    x = images[0] if images else "features"
    y = labels[0] if labels else None
    what, stored = f"{x!r} of {name!r}", tuple(by_name[x].shape)
    _check(by_name[x], bool(images), what)
    _, size, crop, flip, _ = reading
    frame = frame_of(stored, size, crop, flip, what) if images else None
    classes = (by_name[y].num_classes or 0) if y else 0
    names = names_unless_numbers(by_name[y].names) if y else ()
    shape = frame.shape if frame else stored
    factors = factors_of(by_name) if images else ()
    return Roles(x, y, shape, frame, classes, names, tuple(images[1:]), factors)


OF_FACTOR = "label_"
"""Start of the names of features that are known factors of variation."""


def factors_of(features: Mapping[str, Any]) -> tuple[Factor, ...]:
    """The known factors, in the order of their names: labels `label_NAME`, where there
    are at least two. Those with a single value are left out.
    """
    labels = _of(features, tfds_features.ClassLabel, "")
    named = [name for name in labels if name.startswith(OF_FACTOR)]
    found = [
        Factor(
            name.removeprefix(OF_FACTOR),
            features[name].num_classes or 0,
            names_unless_numbers(features[name].names or ()),
        )
        for name in named
    ]
    varied = tuple(factor for factor in found if factor.size > 1)
    return varied if len(named) > 1 else ()


def counts(info: dataset_info.DatasetInfo) -> dict[str, int]:
    """Examples of each split that is read, where there are any."""
    sizes = {split: info.splits[split].num_examples for split in info.splits}
    return {split: sizes[split] for split in SPLITS if sizes.get(split)}


def check_table_size(count: int, roles: Roles, name: str) -> None:
    """InputError where a table of so many rows is too large to hold in memory."""
    size = count * prod(roles.shape) * np.dtype(np.float64).itemsize
    if size > LIMIT:
        raise InputError(
            f"{name!r} is a table of {size / 2**30:.1f} GiB: only images stream, and "
            f"{LIMIT / 2**30:.0f} GiB are held in memory; choose a smaller set"
        )


def _of(features: Mapping[str, Any], kind: type, first: str) -> list[str]:
    names = [key for key, feature in features.items() if isinstance(feature, kind)]
    return sorted(names, key=lambda name: (name != first, name))


def _check(feature: Any, image: bool, what: str) -> None:
    shape, dtype = feature.shape, np.dtype(feature.np_dtype)
    if image and dtype != np.uint8:
        raise InputError(f"{what} has dtype {dtype}: only uint8 images can be read")
    vector = len(shape) == 1 and None not in shape and dtype.kind == "f"
    if not image and not vector:
        raise InputError(
            f"{what} has shape {shape} and dtype {dtype}: it must be a float vector"
        )
