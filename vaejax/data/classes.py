"""Classes: users' labels by name outside, numbers 0 .. C - 1 inside.

Labels are whole numbers, texts or truth values. A class is called by the text of its
label; its index is its place among the classes that the training split has, in
ascending order. A label of another split that training lacks has the index -1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaejax.data.checks import array_of
from vaejax.data.dataset import Arrays, Dataset
from vaejax.data.numerals import quoted
from vaejax.data.spec import Spec
from vaejax.errors import InputError, as_text

WHOLE = re.compile(r"0|[1-9][0-9]{0,9}")
MOST = 2**31
"""Whole numbers from here on do not fit the int32 that labels are stored in."""


def check_y(y: np.ndarray, count: int, what: str, partly: bool = False) -> None:
    """Labels `[N]`, one for each of `count` examples; where they are `partly` known,
    -1 stands for none.
    """
    if y.ndim == 2 and len(y) == count and y.dtype.kind in "iufb":
        remedy = "y.argmax(1)" if y.shape[1] > 1 else "y[:, 0]"
        raise InputError(
            f"{what} has shape {y.shape}: labels are integers or texts [N]; use "
            f"{remedy}"
        )
    if y.ndim != 1 or y.dtype.kind not in "iubU":
        raise InputError(
            f"{what} has shape {y.shape} and dtype {y.dtype}: labels are integers "
            "or texts [N]; use y.astype(int) or y.astype(str)"
        )
    if len(y) != count:
        raise InputError(f"{what} has {len(y)} labels for {count} examples")
    least = -1 if partly else 0
    if y.dtype.kind in "iu" and (y.min() < least or int(y.max()) >= MOST):
        raise InputError(
            f"{what} has labels outside 0 .. 2^31 - 1: leave out examples without a "
            "label; if these are classes, name them by y.astype(str)"
        )
    if partly and y.dtype.kind in "iu" and y.max() < 0:
        raise InputError(f"{what} has no label but -1, which is none: give some")
    if y.dtype.kind == "U" and (y == "").any():
        raise InputError(f"{what} has empty labels: leave those examples out")


def plain(y: Any) -> np.ndarray:
    """Labels as an array of integers, truth values or texts, where they are that."""
    y = array_of(y, "y")
    if y.dtype.kind == "S":
        try:
            return np.char.decode(y, "utf-8")
        except UnicodeDecodeError:
            raise InputError("y holds bytes that are no UTF-8: give texts") from None
    if y.dtype.kind != "O":
        return y
    for kind in (str, (bool, np.bool_), (int, np.integer)):
        if y.size and all(isinstance(label, kind) for label in y.flat):
            return np.array(y.tolist())
    return y


def numbered_labels(
    splits: Mapping[str, Arrays],
) -> tuple[dict[str, Arrays], tuple[str, ...]]:
    """Splits whose labels are integers, and the texts that they stand for.

    No texts where the labels are integers already, or texts of such.
    """
    labels = {split: arrays["y"] for split, arrays in splits.items() if "y" in arrays}
    if not any(y.dtype.kind in "bU" for y in labels.values()):
        return dict(splits), ()
    texts = {split: y.astype(str) for split, y in labels.items()}
    distinct = np.unique(np.concatenate(list(texts.values())))
    if all(WHOLE.fullmatch(text) and int(text) < MOST for text in distinct):
        found = {split: y.astype(np.int64) for split, y in texts.items()}
        names = ()
    else:
        found = {split: np.searchsorted(distinct, y) for split, y in texts.items()}
        names = tuple(distinct.tolist())
    return {split: {**a, "y": found[split]} for split, a in splits.items()}, names


def of_training(dataset: Dataset) -> Dataset:
    """The set with classes 0 .. C - 1, those that the training split has.

    Labels that only other splits have are -1 and listed in `Spec.unseen`; those that
    are -1 stay so. A set that streams keeps the classes that it declares: its labels
    are not read beforehand.
    """
    spec = dataset.spec
    if not spec.classes or spec.streams:
        return dataset._replace(
            spec=spec._replace(names=names_unless_numbers(spec.names))
        )
    labels = {split: dataset.split(split)["y"] for split in spec.sizes}
    seen = np.unique(labels["train"][labels["train"] >= 0])
    others = np.unique(np.concatenate(list(labels.values())))
    unseen = [int(k) for k in others if k >= 0 and k not in seen]
    known = spec._replace(
        classes=len(seen),
        unlabelled=int((labels["train"] < 0).sum()),
        names=names_unless_numbers([class_name(k, spec) for k in seen.tolist()]),
        unseen=(*spec.unseen, *(class_name(k, spec) for k in unseen)),
    )

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        place = np.searchsorted(seen, arrays["y"]).clip(max=len(seen) - 1)
        y = np.where(seen[place] == arrays["y"], place, -1)
        return {**arrays, "y": y.astype(np.int32)}

    return Dataset(known, split)


def class_name(index: int, spec: Spec) -> str:
    """The name of a class."""
    return spec.names[index] if spec.names else str(index)


def names_unless_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Names; none where they are 0, 1, ... in turn."""
    in_turn = all(name == str(place) for place, name in enumerate(names))
    return () if in_turn else tuple(names)


def index_of(values: Any, names: Sequence[str]) -> np.ndarray:
    """Indices int32 of labels, in the shape of `values`.

    A text (or number, or truth value) is the class of that name. Where no class is
    called by a whole number, a whole number is an index.

    Raises:
      InputError: there is no such class.
    """
    place = {name: number for number, name in enumerate(names)}
    if not any(WHOLE.fullmatch(name) for name in names):
        place |= {str(number): number for number in range(len(names))}
    labels = plain(values)
    if labels.dtype.kind not in "biufUO":
        raise InputError(f"y has dtype {labels.dtype}: give labels, {listed(names)}")
    texts = [
        label if isinstance(label, str) else as_text(label)
        for label in labels.reshape(-1).tolist()
    ]
    unknown = [text for text in texts if text not in place]
    if unknown:
        raise InputError(f"no class {quoted(unknown[0])}: {listed(names)}")
    return np.array([place[text] for text in texts], np.int32).reshape(labels.shape)


def labels_of(indices: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The data's own labels `[N]` of classes: the inverse of `index_of`. Whole numbers
    where all classes are called by such, else texts.
    """
    texts = np.array(names)[indices]
    return texts.astype(np.int64) if all(map(WHOLE.fullmatch, names)) else texts


def listed(names: Sequence[str], most: int = 20) -> str:
    """The sentence that says which classes there are."""
    if not names:
        return "the data has no labels"
    if not names_unless_numbers(names):
        return f"the classes are 0 to {len(names) - 1}"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"the classes are {', '.join(names[:most])}{more}"
