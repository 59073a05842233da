"""Hiding entries of complete data, whose truth is kept to measure imputations by."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from vaejax.data import masks
from vaejax.data.dataset import Arrays, Dataset
from vaejax.data.kinds import by_kind
from vaejax.data.spec import Spec
from vaejax.errors import InputError, require

Hide = Literal[
    "none",
    "mcar",
    "exact",
    "mar",
    "mnar",
    "above_mean",
    "rectangle",
    "quadrant",
    "half",
]
SPLITS = ("train", "validation", "test")


def hide(
    dataset: Dataset, how: Hide, rate: float = 0.5, columns: int = 0, seed: int = 0
) -> Dataset:
    """Hides entries of every split: its arrays gain `mask` and `hidden`, uint8.

    `mask` is 1 where an entry is observed, `hidden` 1 where it was and is hidden here.
    `x` stays as it is: preprocessing zeroes it before any model sees it.

    Args:
      dataset: complete or with holes of its own; tables standardized.
      how: `mcar` each entry (of images: pixel) with probability `rate`; `exact`
        floor(N D rate) of them; `mar` columns from `columns` on by a logistic of those
        before; `mnar` the first `columns` by a logistic of themselves; `above_mean`
        the first `columns` above their mean; of images a `rectangle`, `quadrant` or
        `half`.
      rate: share of what is hidden among the columns that can be.
      columns: 0 is half of them.
      seed: of the masks.

    Raises:
      InputError: the pattern does not fit the data.
    """
    if how == "none":
        return dataset
    if dataset.spec.streams:
        raise InputError(f"--hide {how} needs {dataset.spec.name} whole: --stream no")
    masks.check_rate(rate)
    make = pattern(dataset.spec, how, rate, columns)

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        u = masks.uniforms(seed, SPLITS.index(name), len(arrays["x"]), make.width)
        seen = make.observed(u, arrays["x"])
        known = arrays.get("mask", np.uint8(1)) == 1
        mask, hidden = seen & known, ~seen & known
        return {**arrays, "mask": as_bytes(mask), "hidden": as_bytes(hidden)}

    return Dataset(dataset.spec._replace(masked=True, hidden=True), split)


class Pattern(NamedTuple):
    """The number of uniforms `u` an example takes, and `observed(u, x)`, the mask."""

    width: int
    observed: Callable[[np.ndarray, np.ndarray], np.ndarray]


def pattern(spec: Spec, how: Hide, rate: float, columns: int) -> Pattern:
    """The pattern that is called `how`, for data like these."""
    kinds = {
        "image": lambda: image_pattern(spec, how, rate),
        "table": lambda: table_pattern(spec, how, rate, columns),
    }
    return by_kind(spec, kinds, f"--hide {how}")()


def table_pattern(spec: Spec, how: Hide, rate: float, columns: int) -> Pattern:
    """A pattern over columns."""
    count = spec.shape[0]
    some = columns or count // 2
    if how in ("mar", "mnar", "above_mean"):
        require(0 < some < count, "hide_columns", some, f"between 1 and {count - 1}")
    known = {
        "mcar": Pattern(count, lambda u, x: masks.mcar(u, rate)),
        "exact": Pattern(count, lambda u, x: masks.exact(u, rate)),
        "mar": Pattern(count, lambda u, x: masks.mar(u, x, rate, some)),
        "mnar": Pattern(count, lambda u, x: masks.mnar(u, x, rate, some)),
        "above_mean": Pattern(1, lambda u, x: masks.above_mean(x, some)),
    }
    return matching_pattern(known, how, spec)


def image_pattern(spec: Spec, how: Hide, rate: float) -> Pattern:
    """A pattern over pixels, the same for all channels."""
    height, width, channels = spec.shape
    area = height * width
    known = {
        "mcar": Pattern(area, lambda u, x: masks.mcar(u, rate)),
        "exact": Pattern(area, lambda u, x: masks.exact(u, rate)),
        "rectangle": Pattern(4, lambda u, x: masks.rectangle(u, height, width)),
        "quadrant": Pattern(1, lambda u, x: masks.quadrant(u, height, width)),
        "half": Pattern(1, lambda u, x: masks.half(u, height, width)),
    }
    plane = matching_pattern(known, how, spec)
    return Pattern(
        plane.width, lambda u, x: plane.observed(u, x).repeat(channels, axis=1)
    )


def matching_pattern(known: dict[str, Pattern], how: Hide, spec: Spec) -> Pattern:
    """The pattern, or an InputError where there is none for data like these."""
    if how not in known:
        raise InputError(
            f"--hide {how} does not fit {spec.name}, a set of {spec.kind}s: choose of "
            f"none, {', '.join(known)}"
        )
    return known[how]


def as_bytes(mask: np.ndarray) -> np.ndarray:
    """As it is kept on the device."""
    return np.ascontiguousarray(mask, np.uint8)
