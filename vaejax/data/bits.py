"""Whether grey levels of pictures can be taken as probabilities of bits."""

import numpy as np

from vaejax.data.dataset import Dataset
from vaejax.data.kinds import kind_of

LOOKED_AT = 1000
"""Training examples, evenly spaced, whose pixels are looked at."""
NEAR = 0.1
"""Greatest distance from 0 or 1 of a level, scaled to [0, 1], that is near."""
SHARE = 0.6
"""Least share of pixels near 0 or 1 in nearly binary pictures: our own grey sets have
0.65 (`digits`) and 0.91 (`mnist_5k`)."""


def with_bits(dataset: Dataset) -> Dataset:
    """The set with `Spec.nearly_binary` found out; tables stay as they are."""
    if not kind_of(dataset.spec).scaled:
        return dataset
    found = nearly_binary(dataset)
    return dataset._replace(spec=dataset.spec._replace(nearly_binary=found))


def nearly_binary(dataset: Dataset) -> bool:
    """Pictures of two levels are; colour is not; grey is where at least `SHARE` of the
    observed pixels of a fixed sample of training are near 0 or 1.

    A set that streams is not scanned: there, grey is.
    """
    spec = dataset.spec
    if spec.levels == 2:
        return True
    if spec.shape[-1] > 1:
        return False
    if spec.streams:
        return True
    arrays = dataset.split("train")
    rows = np.unique(np.linspace(0, len(arrays["x"]) - 1, LOOKED_AT).astype(int))
    x = arrays["x"][rows] / 255
    if "mask" in arrays:
        x = x[arrays["mask"][rows] == 1]
    return bool(x.size == 0 or np.mean((x <= NEAR) | (x >= 1 - NEAR)) >= SHARE)
