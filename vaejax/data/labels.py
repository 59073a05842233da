"""Few labels: which training examples keep theirs, and batches of both kinds.

`y` is -1 where an example has no label.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vaejax.data.dataset import Arrays, Dataset
from vaejax.data.feed import Order, Shuffled, permutation
from vaejax.errors import InputError, require

LABELLED = 2
"""The stream of random numbers that orders labelled rows; that of others is 0."""


def keep_labels(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """The data set with `count` labels of its training split; the others become -1.

    Classes have equally many, up to one. Fewer labels of a seed are among the more of
    it. The other splits keep theirs.

    Args:
      dataset: with labels, in memory.
      count: 0 keeps all.
      seed: of the choice.

    Raises:
      InputError: there are no labels, fewer than `count`, or fewer than one a class.
    """
    spec = dataset.spec
    if spec.streams:
        raise InputError(f"labels of {spec.name} are not known beforehand: --stream no")
    if not count:
        return dataset
    size = spec.sizes["train"]
    require(
        spec.classes <= count <= size,
        "labels",
        count,
        f"0 or from {spec.classes} (one a class) to {size:,} (all examples)",
    )

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        if name != "train":
            return arrays
        y = np.full_like(arrays["y"], -1)
        kept = balanced_rows(arrays["y"], count, seed, spec.class_names)
        y[kept] = arrays["y"][kept]
        return {**arrays, "y": y}

    return Dataset(spec._replace(unlabelled=size - count), split)


def balanced_rows(
    y: np.ndarray, count: int, seed: int, names: Sequence[str]
) -> np.ndarray:
    """Places of `count` examples with equally many of each class, up to one.

    Args:
      y: classes 0, 1, ..., or -1, `[N]`.
      count: of examples.
      seed: of the choice.
      names: of the classes.

    Raises:
      InputError: a class has too few.
    """
    # NumPy promises the raw stream of a bit generator for ever.
    random = np.random.Philox(key=seed, counter=[0, 0, 0, LABELLED])
    order = np.argsort(random.random_raw(len(y)), kind="stable")
    found = []
    for k, name in enumerate(names):
        wanted = count // len(names) + (k < count % len(names))
        mine = order[y[order] == k]
        if len(mine) < wanted:
            raise InputError(
                f"--labels {count} takes {wanted} of each class, and there are "
                f"{len(mine)} of class {name}: keep fewer"
            )
        found.append(mine[:wanted])
    return np.concatenate(found)


class Cycle(NamedTuple):
    """A sequence without end: the places in one random order after the other."""

    places: np.ndarray
    seed: int
    stream: int

    def take(self, start: int, count: int) -> np.ndarray:
        """The entries `start` to `start + count` of the sequence."""
        numbers = np.arange(start, start + count)
        rounds, within = np.divmod(numbers, len(self.places))
        found = np.empty(count, np.int32)
        for number in np.unique(rounds).tolist():
            order = permutation(len(self.places), self.seed, number, self.stream)
            here = rounds == number
            found[here] = self.places[order[within[here]]]
        return found


class Both:
    """Batches with `labelled` rows that have a label, first, and else rows without.

    Each kind passes in its own random orders, one after the other, so that labelled
    rows come again more often where their share of a batch is larger than of the set.
    """

    def __init__(
        self, y: np.ndarray, batch_size: int, labelled: int, seed: int
    ) -> None:
        self._fields = y, batch_size, labelled, seed
        self._with = Cycle(np.flatnonzero(y >= 0), seed, LABELLED)
        self._without = Cycle(np.flatnonzero(y < 0), seed, 0)

    def __reduce__(self) -> Any:
        return Both, self._fields

    def rows(self, step: int) -> np.ndarray:
        """Places in the split, int32 `[batch_size]`."""
        _, batch_size, labelled, _ = self._fields
        others = batch_size - labelled
        first = self._with.take(step * labelled, labelled)
        return np.concatenate([first, self._without.take(step * others, others)])


def labelled_order(
    size: int, batch_size: int, seed: int, *, dataset: Dataset, share: float = 0.0
) -> Order:
    """Which examples each step sees, where some of them have no label.

    Args:
      size: of the training split.
      batch_size: of which at least one row has a label, and one has none.
      seed: of the run.
      dataset: whose labels are looked at.
      share: of labelled rows in a batch; 0: as of the set.
    """
    y = dataset.split("train")["y"]
    if (y >= 0).all():
        return Shuffled(size, batch_size, seed)
    return Both(y, batch_size, labelled_rows(dataset, batch_size, share), seed)


def labelled_rows(dataset: Dataset, batch_size: int, share: float) -> int:
    """The number of labelled rows in each batch, known from the description alone.

    InputError where a batch has no room for rows of both kinds.
    """
    spec = dataset.spec
    if batch_size < 2:
        raise InputError(
            "--batch-size 1 has no room for a row with a label and one without: "
            "set at least 2"
        )
    share = share or 1 - spec.unlabelled / spec.sizes["train"]
    return min(max(1, round(batch_size * share)), batch_size - 1)
