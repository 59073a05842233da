"""Users' pictures as a data set, from wherever they are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaejax.data.dataset import Dataset, describe
from vaejax.data.examples import Examples, Warned
from vaejax.data.images import all_examples, halved, images_in_memory, stream
from vaejax.data.photos import (
    Pictures,
    check_depth,
    size_words,
    stored_shape,
    survey,
    survey_remarks,
)
from vaejax.data.pictures import Frame, frame_of
from vaejax.data.reading import Reading
from vaejax.data.records import Subset
from vaejax.data.spec import Spec
from vaejax.data.splits import TEST_SHARE
from vaejax.errors import InputError
from vaejax.runtime.memory import check_fits


def pictures_dataset(
    name: str,
    splits: Mapping[str, Pictures],
    names: tuple[str, ...],
    reading: Reading,
    parts: Sequence[Any],
    remarks: Sequence[str] = (),
) -> Dataset:
    """The data set of these splits; without a test split a tenth is held out.

    Args:
      name: that of `Spec.name`.
      splits: pictures whose labels, if any, are indices into `names`.
      names: the classes; empty where pictures have no labels.
      reading: whether and how they are resized and stream.
      parts: what identifies the content, where it is not read beforehand.
      remarks: lines to print before those about the pictures.

    Raises:
      InputError: a picture cannot be read, or they differ in size and are not resized.
    """
    found = survey(splits, reading.skip)
    for split, rows in found.rows.items():
        if not rows.size:
            raise InputError(f"{name!r} has no picture to {split} that can be read")
    check_depth(found, repr(name))
    shape = stored_shape(found, reading.size, repr(name))
    frame = frame_of(shape, *reading[1:4], repr(name), own=True)
    examples = {
        split: Examples(Subset(splits[split], rows), frame, bool(names), reading.skip)
        for split, rows in found.rows.items()
    }
    if "test" not in examples:
        examples |= halved(examples["train"], TEST_SHARE, 0, name, "test")
    lines = (*remarks, *survey_remarks(found, frame.size))
    if reading.streams(len(examples["train"]), frame.shape):
        check_trained_on(name, splits, found.rows, names)
        dataset = stream(name, examples, len(names), [*parts, frame.shape])
    else:
        count = sum(map(len, examples.values()))
        check_fits(
            2 * count * math.prod(frame.shape),
            f"the pictures of {name!r}",
            "set --stream yes, or a smaller --image-size",
        )
        arrays = images_in_memory(name, examples)
        given = names if "y" in arrays["train"] else ()
        dataset = describe(name, arrays, len(given), names=given)
    classes = names if dataset.spec.classes else ()
    return dataset._replace(spec=dataset.spec._replace(names=classes, remarks=lines))


def pictures_like(
    pictures: Pictures, spec: Spec, reading: Reading, what: str
) -> np.ndarray:
    """Pictures for a trained model, uint8 `[N, H, W, C]`, as those of training.

    `reading` is that of training. InputError where one cannot be read, is in colour for
    a model of grey, or of another size where training resized none.
    """
    found = survey({"all": pictures}, skip=False)
    *sides, channels = spec.shape
    stored = tuple(side + reading.crop for side in sides)
    for look, name in zip(found.looks, found.names, strict=True):
        if channels == 1 and not look.grey:
            raise InputError(
                f"{name} is in colour, and the model's pictures are grey: convert it "
                "by picture.convert('L')"
            )
        if not reading.size and look[1:3] != stored:
            raise InputError(
                f"{name} is {size_words(look[1:3])}, and the model's pictures are "
                f"{size_words(stored)} (height x width): crop or resize it"
            )
    size = reading.size + reading.crop if reading.size else 0
    frame = Frame((sides[0], sides[1], channels), size, reading.crop, own=True)
    return all_examples(Examples(pictures, frame, False), Warned())["x"]


def check_trained_on(
    name: str,
    splits: Mapping[str, Pictures],
    rows: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> None:
    """InputError where a class has pictures, and none to train on: a set that streams
    has the classes that are declared.
    """
    labels = {split: splits[split].labels[own] for split, own in rows.items()}
    trained = set(labels["train"].tolist())
    for split, own in labels.items():
        if unseen := sorted(set(own.tolist()) - trained):
            raise InputError(
                f"{name!r} has pictures of {names[unseen[0]]} to {split} and none to "
                "train on: give some, or remove these"
            )
