"""Descriptions of data sets and their columns, which runs keep in `config.json`."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vaejax.data.kinds import KINDS, kind_of
from vaejax.data.stored import read_record
from vaejax.errors import InputError


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


class Factor(NamedTuple):
    """A known factor of variation: a column of `factors`, of numbers 0 .. size - 1."""

    name: str
    size: int
    values: tuple[str, ...] = ()
    """Names of the numbers 0, 1, ...; empty where these are their names."""


class Pixels(NamedTuple):
    """The scale of pictures that were not given as uint8."""

    rule: str
    """A name in `vaejax.data.levels.RULES`."""
    dtype: str
    """The type of the pixels, as NumPy names it."""


class FirstStage(NamedTuple):
    """The trained model whose latents are the data of another one."""

    run: str
    """Its folder, or its address on the hub."""
    what: str
    """`codes`, `means` of q(z | x), or `draws` of it."""
    digest: str
    """The digest of the parameters that encoded, by `state_digest`."""
    step: int
    """The step of training that these parameters are of."""
    source: str = ""
    """Name of the encoded data, where that is not the data of its training."""
    side: int = 0
    """Pixels of a side that images were resized to; 0: those of training."""

    def change(self, found: "FirstStage") -> str:
        """The line about another first stage that was found in this one's place."""
        return (
            f"the first stage {found.run} is not the one that encoded the data: its "
            f"parameters have digest {found.digest} (step {found.step:,}), those had "
            f"{self.digest} (step {self.step:,}); restore those, or train another "
            "second stage"
        )


class Spec(NamedTuple):
    """A description of a data set for models: small, kept in a run's `config.json`."""

    name: str
    """As it was asked for: "mnist_5k", "npz:/abs/path.npz", "arrays"."""
    kind: str
    """A name in `vaejax.data.kinds.KINDS`, as "image" or "table"."""
    shape: tuple[int, ...]
    """Shape of one example: (height, width, channels), (columns,), or of codes
    (height, width, levels)."""
    levels: int
    """Grey levels of an image: 2 where it is binary already, else 256; of codes their
    number; 0 of others."""
    classes: int
    """Number of classes; 0 without labels."""
    sizes: Mapping[str, int]
    """Examples of each split: train, test, and validation where there is one."""
    digest: str
    """Digest of every split before hold-out; if streamed, of file names and sizes."""
    mean: tuple[float, ...] = ()
    """Mean of each column of the training split, which standardizes `x` (tables), or of
    each channel of a map of latents."""
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
    pixels: Pixels | None = None
    """The scale of the pictures as they were given; None of uint8, and of tables."""
    unlabelled: int = 0
    """Training examples without a label: there `y` is -1."""
    first: FirstStage | None = None
    """The model whose latents these are, where they are any."""
    factors: tuple[Factor, ...] = ()
    """The known factors of variation; then every split has `factors`, a column each."""

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
        "levels": 0 <= spec.levels <= 2**24,
        "classes": 0 <= spec.classes < 2**31,
        "sizes": "train" in spec.sizes and min(spec.sizes.values()) > 0,
        "mean": np.isfinite(spec.mean).all(),
        "scale": all(0 < scale < math.inf for scale in spec.scale),
        "unlabelled": 0 <= spec.unlabelled < spec.sizes["train"],
        "columns": not kind.standardized or all(n in (0, spec.shape[-1]) for n in wide),
        "columns.kind": all(fits(column) for column in spec.columns),
        "names": len(spec.names) in (0, spec.classes),
        "pixels": spec.pixels is None or is_scale(spec.pixels),
        "factors": all(is_factor(factor) for factor in spec.factors)
        and len({factor.name for factor in spec.factors}) == len(spec.factors),
    }
    for name, holds in sound.items():
        if not holds:
            raise InputError(f"data.{name} cannot be that of a data set")


def is_scale(pixels: Pixels) -> bool:
    """Whether the rule and the type of pixels are known."""
    from vaejax.data.levels import RULES

    try:
        kind = np.dtype(pixels.dtype).kind
    except TypeError:
        return False
    return pixels.rule in RULES and kind in "biuf"


def is_factor(factor: Factor) -> bool:
    """Whether it has values, and as many names of them, or none."""
    return 0 < factor.size < 2**31 and len(factor.values) in (0, factor.size)


def fits(column: Column) -> bool:
    """Whether a column is of a known kind, and has the values that this takes."""
    least = {"real": 0, "constant": 0, "count": 0, "binary": 2, "category": 1}
    return len(column.values) >= least.get(column.kind, math.inf)
