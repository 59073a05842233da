"""Data sets: a small description, and a function from a split to arrays."""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vaejax.data.kinds import KINDS, kind_of
from vaejax.data.stored import read_record
from vaejax.errors import InputError

if TYPE_CHECKING:
    from vaejax.data.examples import Examples

Arrays = dict[str, np.ndarray]
"""The examples of one split: `x`, and where there are any, labels `y` and a `mask`."""


class Dialect(NamedTuple):
    """The dialect of a CSV file, as found or given."""

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    header: str = "first"
    """`first` line, or `none`."""
    missing: tuple[str, ...] = ()
    """Texts that are holes in all columns, beside empty cells."""
    ignore: tuple[str, ...] = ()
    """Columns that are copied, not trained on."""
    grouped: bool = False
    """Whether digits of some numbers are grouped by three, as in 12,345.5."""


class Column(NamedTuple):
    """One column of a table: what its numbers are."""

    name: str
    kind: str = "real"
    """real, constant, binary, category or count."""
    values: tuple[str, ...] = ()
    """Names of the numbers 0, 1, ... of a binary column or a category."""
    form: str = ""
    """How its numbers are written: `whole`, `whole.0` (as in 98.0), `percent`, or of
    dates, which are seconds since 1970, a pattern of `strftime`; empty: as floats."""
    limits: tuple[float, ...] = ()
    """The least and the largest number; empty where values have names."""
    missing: float | None = None
    """Share of its cells that are holes, over all rows of a CSV file."""


class Spec(NamedTuple):
    """A description of a data set for models: small, kept in a run's `config.json`."""

    name: str
    """As it was asked for: "mnist_5k", "npz:/abs/path.npz", "arrays"."""
    kind: str
    """A name in `vaejax.data.kinds.KINDS`: "image" or "table"."""
    shape: tuple[int, ...]
    """Shape of one example: (height, width, channels), or (columns,)."""
    levels: int
    """Grey levels of an image: 2 where it is binary already, else 256; 0 for tables."""
    classes: int
    """Number of classes; 0 without labels."""
    sizes: Mapping[str, int]
    """Examples of each split: train, test, and validation where there is one."""
    digest: str
    """Digest of every split before hold-out; if streamed, of file names and sizes."""
    mean: tuple[float, ...] = ()
    """Mean of each column of the training split, which standardizes `x` (tables)."""
    scale: tuple[float, ...] = ()
    """Standard deviation of each column, 1 where it is constant (tables)."""
    columns: tuple[Column, ...] = ()
    """The columns of a table; empty where all are real and unnamed."""
    masked: bool = False
    """Whether there are entries that are not observed: then every split has `mask`."""
    hidden: bool = False
    """Whether some were hidden on purpose: then every split has `hidden`, too."""
    streams: bool = False
    """Whether examples are decoded when they are needed, being too many to keep."""
    names: tuple[str, ...] = ()
    """Names of classes 0, 1, ...; empty where their numbers are their names."""
    unseen: tuple[str, ...] = ()
    """Labels of other splits that training has no example of: there `y` is -1."""
    dialect: Dialect | None = None
    """How a csv: file was read; None of other data, and of runs that are older."""
    remarks: tuple[str, ...] = ()
    """Lines about the data that a run prints: guesses and warnings."""
    library: float = 0.0
    """Mean sum of a training row's counts (tables with counts)."""
    empty_rows: int = 0
    """Rows, of all splits, whose counts are all observed and all 0."""
    nearly_binary: bool = True
    """Whether `auto` takes pixels as bits; older runs always did."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, by its index."""
        return self.names or tuple(map(str, range(self.classes)))

    def label_index(self, values: Any) -> np.ndarray:
        """Indices (int32, in the shape of `values`) of classes given by their labels.

        `values` are the data's own labels: texts, whole numbers or truth values. Where
        no class is called by a whole number, whole numbers are indices. Raises
        InputError where training saw no such class.
        """
        from vaejax.data.classes import index_of

        return index_of(values, self.class_names)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON can hold them: tuples as lists."""
        fields = self._asdict() | {"sizes": dict(self.sizes)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Spec":
        """The inverse of `to_json`; InputError where it is none."""
        spec = read_record(cls, fields, "data")
        check_spec(spec)
        return spec


def check_spec(spec: Spec) -> None:
    """InputError where the fields of a description do not fit each other."""
    if spec.kind not in KINDS:
        raise InputError("data.kind cannot be that of a data set")
    kind = kind_of(spec)
    width = math.prod(spec.shape)
    wide = [len(spec.mean), len(spec.scale), len(spec.columns)]
    sound = {
        "shape": len(spec.shape) == len(kind.axes)
        and all(side > 0 for side in spec.shape)
        and width < 2**31,
        "levels": 0 <= spec.levels <= 2**16,
        "classes": 0 <= spec.classes < 2**31,
        "sizes": "train" in spec.sizes and min(spec.sizes.values()) > 0,
        "mean": np.isfinite(spec.mean).all(),
        "scale": all(0 < scale < math.inf for scale in spec.scale),
        "columns": not kind.has_columns or all(n in (0, width) for n in wide),
        "columns.kind": all(fits(column) for column in spec.columns),
        "names": len(spec.names) in (0, spec.classes),
    }
    for name, holds in sound.items():
        if not holds:
            raise InputError(f"data.{name} cannot be that of a data set")


def fits(column: Column) -> bool:
    """Whether a column is of a known kind, and has the values that this takes."""
    least = {"real": 0, "constant": 0, "count": 0, "binary": 2, "category": 1}
    return len(column.values) >= least.get(column.kind, math.inf)


def no_stream(name: str) -> "Examples":
    """The examples of a split that does not stream: none."""
    raise InputError(f"split {name!r} is in memory: it does not stream")


class Dataset(NamedTuple):
    """A description and the examples themselves.

    `split(name)` gives `{"x": ..., "y": ...}`: `x` is uint8 `[N, H * W * C]` for images
    (0 and 1 where they are binary), float32 `[N, D]`, standardized, for tables; `y` is
    int32 `[N]` and there only where the set has labels; `mask` is uint8 like `x`, 1
    where an entry is observed, and there only where the set has holes (`x` is 0 in
    those of a table). Each call may make the arrays anew, so keep them. A split that
    does not exist is an `InputError`, and so is any of a set that streams: there
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
) -> Dataset:
    """A data set of shaped arrays: uint8 `[N, H, W, C]`, or real numbers `[N, D]`.

    Images are flattened, and those with two values only (0 and 1, or 0 and 255) become
    0 and 1. Tables are kept in float64, not yet standardized, with NaN in their holes.
    `classes` is counted from the labels unless given; `names` are the texts that labels
    stand for, if any; a split may bring a `mask`.
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
