"""Data sets: a small description, and a function from a split to arrays."""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaejax.data.spec import Column, Factor, Spec
from vaejax.errors import InputError

if TYPE_CHECKING:
    from vaejax.data.examples import Examples

Arrays = dict[str, np.ndarray]
"""The examples of one split: `x`, and where there are any, labels `y`, a `mask` and
`factors`."""


def no_stream(name: str) -> "Examples":
    """The examples of a split that does not stream: none."""
    raise InputError(f"split {name!r} is in memory: it does not stream")


class Dataset(NamedTuple):
    """A description and the examples themselves.

    `split(name)` gives `{"x": ..., "y": ...}`: `x` is uint8 `[N, H * W * C]` for images
    (0 and 1 where they are binary), float32 `[N, D]`, standardized, for tables; `y` is
    int32 `[N]` and there only where the set has labels; `mask` is uint8 like `x`, 1
    where an entry is observed, and there only where the set has holes (`x` is 0 in
    those of a table); `factors` is int32 `[N, F]`, the value of each known factor of
    variation, and there only where these are known (`Spec.factors`); `noise` is float32
    like x, and there only where each access adds Gaussian noise of that deviation
    (`draws:RUN`). Each call may make new arrays, so keep them. A split that does not
    exist is an `InputError`, and so is any of a set that streams: there
    `examples(name)` reads those that are asked for.
    """

    spec: Spec
    split: Callable[[str], Arrays]
    examples: "Callable[[str], Examples]" = no_stream

    def size(self, split: str) -> int:
        """Examples of a split; InputError where there is none of that name."""
        return one_of(self.spec.sizes, split, self.spec)

    def some(self, split: str, rows: np.ndarray) -> Arrays:
        """The examples in these places of a split."""
        if not self.spec.streams:
            return {key: a[rows] for key, a in self.split(split).items()}
        from vaejax.data.examples import Warned

        arrays, notes = self.examples(split).read(rows)
        Warned().warn(notes)
        return arrays


def streamed(spec: Spec, splits: "Mapping[str, Examples]") -> Dataset:
    """A data set of images that are decoded when they are needed."""

    def split(name: str) -> Arrays:
        raise InputError(
            f"{spec.name!r} streams, and all of {name} is needed here: set --stream no"
        )

    return Dataset(spec, split, lambda name: one_of(splits, name, spec))


def one_of(splits: Mapping[str, Any], name: str, spec: Spec) -> Any:
    """The split of that name; InputError where there is none."""
    if name not in splits:
        there = ", ".join(splits)
        raise InputError(f"{spec.name!r} has no split {name!r}: it has {there}")
    return splits[name]


def in_memory(spec: Spec, splits: Mapping[str, Arrays]) -> Dataset:
    """A data set of arrays that are there already."""

    return Dataset(spec, lambda name: dict(one_of(splits, name, spec)))


def describe(
    name: str,
    splits: Mapping[str, Arrays],
    classes: int | None = None,
    columns: tuple[Column, ...] = (),
    names: tuple[str, ...] = (),
    factors: tuple[Factor, ...] = (),
) -> Dataset:
    """A data set of shaped arrays: uint8 `[N, H, W, C]`, or real numbers `[N, D]`.

    Images are flattened, and those with two values only (0 and 1, or 0 and 255) become
    0 and 1. Tables are kept in float64, not yet standardized, with NaN in their holes.
    `classes` is counted from the labels unless given; `names` are the texts that labels
    stand for, if any; a split may bring a `mask`, and `factors`, which are described.
    """
    splits = with_masks(splits)
    train = splits["train"]
    image = train["x"].dtype == np.uint8
    binary = image and _is_binary([arrays["x"] for arrays in splits.values()])
    plain = {key: _plain(arrays, binary) for key, arrays in splits.items()}
    if classes is None:
        tops = [int(a["y"].max()) + 1 for a in plain.values() if "y" in a]
        classes = max(tops, default=0)
    spec = Spec(
        name=name,
        kind="image" if image else "table",
        shape=train["x"].shape[1:],
        levels=(2 if binary else 256) if image else 0,
        classes=classes,
        sizes={key: len(arrays["x"]) for key, arrays in plain.items()},
        digest=arrays_digest(train["x"].shape[1:], plain, names),
        columns=columns,
        masked="mask" in plain["train"],
        names=names,
        factors=factors,
    )
    return in_memory(spec, plain)


def with_masks(splits: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Every split with `mask`, where any has one or NaN; tables have NaN in holes."""
    if not any("mask" in a or np.isnan(a["x"]).any() for a in splits.values()):
        return dict(splits)
    found = {}
    for split, arrays in splits.items():
        x = arrays["x"]
        mask = ~np.isnan(x) & (arrays.get("mask", np.ones((), bool)) == 1)
        if x.dtype != np.uint8:
            x = np.where(mask, x, np.nan)
        found[split] = {**arrays, "x": x, "mask": mask.astype(np.uint8)}
    return found


def _is_binary(images: list[np.ndarray]) -> bool:
    """Whether there are two grey levels, coded alike in every split."""
    if max(x.max() for x in images) <= 1:
        return True
    return all(((x == 0) | (x == 255)).all() for x in images)


def _plain(arrays: Arrays, binary: bool) -> Arrays:
    x = arrays["x"].reshape(len(arrays["x"]), -1)
    plain: Arrays
    if x.dtype == np.uint8:
        plain = {"x": (x > 0).astype(np.uint8) if binary else np.ascontiguousarray(x)}
    else:
        plain = {"x": x.astype(np.float64)}
    if "y" in arrays:
        plain["y"] = arrays["y"].astype(np.int32)
    if "factors" in arrays:
        plain["factors"] = np.ascontiguousarray(arrays["factors"], np.int32)
    if "mask" in arrays:
        mask = arrays["mask"].reshape(len(x), -1)
        plain["mask"] = np.ascontiguousarray(mask, np.uint8)
    return plain


def arrays_digest(
    shape: tuple[int, ...], splits: Mapping[str, Arrays], names: tuple[str, ...]
) -> str:
    """blake2b of every array, each under its name, as hexadecimal digits."""
    total = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    if names:
        total.update(repr(names).encode())
    for split in sorted(splits):
        for key, array in sorted(splits[split].items()):
            total.update(f"{split} {key} {array.shape} {array.dtype.name}".encode())
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
