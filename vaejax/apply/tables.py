"""Tables to fill: read, handed to a model in its units, and written as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.data.arrays import read_npz
from vaejax.data.checks import check_mask, check_no_infinity, check_x
from vaejax.data.dialect import Csv, TextTable, write_page
from vaejax.data.kinds import kind_of, with_channels
from vaejax.data.levels import RULES
from vaejax.data.numerals import HOLES, quoted, text_of
from vaejax.data.own import levels_of
from vaejax.data.schema import grouped_cell, numbers_of, read_csv
from vaejax.data.spec import Dialect, Spec
from vaejax.data.units import in_units, standardized
from vaejax.errors import InputError
from vaejax.runtime.storage import written_whole

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
"""Endings of names of tables as text."""
FOUND = ("utf-8", "utf-8-sig", "utf-16", "cp1252")
"""Encodings that are found out from a file."""


class Holey(NamedTuple):
    """Examples with holes in the model's units, and how filled ones are written."""

    x: np.ndarray
    mask: np.ndarray
    write: Callable[[np.ndarray, Path], None]


def suffix_of(path: Path) -> str:
    """The end of a name that says what is in the file, as `.csv.gz`."""
    known = [end for end in (*SUFFIXES, ".npz") if path.name.endswith(end)]
    return max(known, key=len, default=path.suffix)


def numbered_path(path: Path, number: str) -> Path:
    """The name with a number before its suffix: `a-1.csv.gz`."""
    end = suffix_of(path)
    return path.with_name(f"{path.name.removesuffix(end)}-{number}{end}")


def open_holey(path: Path, spec: Spec) -> Holey:
    """Reads a table or `.npz` like the data that a model was trained on.

    InputError where it is neither, or holds other columns.
    """
    if suffix_of(path) in SUFFIXES:
        return open_text_table(path, spec)
    if path.suffix == ".npz":
        return open_array_table(path, spec)
    names = ", ".join(SUFFIXES)
    raise InputError(f"--input {path}: the name must end in {names} or .npz")


def open_text_table(path: Path, spec: Spec) -> Holey:
    """A table as text, in which only holes are written; the rest is copied."""
    if not spec.columns:
        raise InputError(f"{path}: the model was trained on {spec.name}, not on a csv:")
    table = read_like(path, spec)
    x = numbers_of(table, spec.columns, str(path))
    check_no_infinity(x, str(path))
    mask = ~np.isnan(x)

    def write(filled: np.ndarray, out: Path) -> None:
        texts = cells_of(filled, spec, ~mask, table.dialect.decimal)
        cells = {name: column.copy() for name, column in table.cells.items()}
        for place, column in enumerate(spec.columns):
            holes = ~mask[:, place]
            cells[column.name][holes] = texts[holes, place]
        write_page(table.page, list(zip(*cells.values(), strict=True)), out)

    return Holey(standardized(x, spec), mask, write)


def read_like(path: Path, spec: Spec) -> TextTable:
    """A file of the columns that were trained on, in the dialect of training; its
    separator and encoding may be others.

    InputError where its numbers look as if its decimal sign were another one.
    """
    known = spec.dialect or Dialect(missing=HOLES)  # older runs: NA was a hole
    encoding = "auto" if known.encoding in FOUND else known.encoding
    asked = Csv("auto", known.decimal, encoding, known.header, known.missing)
    try:
        table = read_csv(path, asked)
    except InputError:
        table = read_csv(path, asked._replace(separator=known.separator))
    left_out = tuple(name for name in table.cells if name in known.ignore)
    ignored = tuple(dict.fromkeys((*table.dialect.ignore, *left_out)))
    page = table.page
    table = TextTable(
        page._replace(dialect=page.dialect._replace(ignore=ignored)), table.cells
    )
    columns = [column for column in spec.columns if column.name in table.cells]
    odd = "" if known.grouped else grouped_cell(table, columns)
    if odd and spec.dialect is not None:
        raise InputError(
            f"{path} holds {quoted(odd)}: the decimal sign of training is "
            f"{known.decimal!r}, and its digits are not grouped; write numbers alike"
        )
    return table


def cells_of(
    x: np.ndarray, spec: Spec, chosen: np.ndarray | None = None, decimal: str = "."
) -> np.ndarray:
    """The texts of a table's cells, `[N, D]` of str, each in its column's form.

    Args:
      x: `[N, D]` in the model's units.
      spec: of the data that were trained on, with `columns`.
      chosen: bool `[N, D]`, which cells are wanted; others are empty.
      decimal: the sign to write.

    Raises:
      InputError: a wanted number is not finite.
    """
    values = in_units(x, spec)
    chosen = np.ones(values.shape, bool) if chosen is None else chosen
    texts = np.full(values.shape, "", object)
    for row, place in zip(*np.nonzero(chosen), strict=True):
        value, column = float(values[row, place]), spec.columns[place]
        if not np.isfinite(value):
            raise InputError(
                f"row {row + 1} of column {quoted(column.name)} would be {value}: its "
                "observed values are out of the range of float32; mend or rescale them"
            )
        texts[row, place] = text_of(value, column, spec.scale[place], decimal)
    return texts


def open_array_table(path: Path, spec: Spec) -> Holey:
    """The array `x` (or `x_train`), and where there is one `mask` (or `mask_train`)."""
    arrays = read_npz(path)
    x = arrays.get("x", arrays.get("x_train"))
    if x is None:
        raise InputError(f"{path} has no array x: it has {', '.join(arrays)}")
    kind, shaped = kind_of(spec), with_channels(x, spec)
    if kind.coded:
        raise InputError(f"{spec.name} holds codes, which have no holes to fill")
    if shaped.shape[1:] != spec.shape:
        raise InputError(
            f"{path} holds examples {shaped.shape[1:]}: the model's are {spec.shape}"
        )
    check_x(x, f"x of {path}")
    mask = arrays.get("mask", arrays.get("mask_train", np.ones(x.shape, bool)))
    check_mask(mask, x, f"mask of {path}")
    mask = (mask == 1) & ~np.isnan(x)

    def write(filled: np.ndarray, out: Path) -> None:
        own = given_scale(filled, x, spec) if kind.scaled else in_units(filled, spec)
        values = np.rint(own) if x.dtype.kind in "iub" else own
        values = values.reshape(x.shape).astype(x.dtype)
        with written_whole(out) as file:
            np.savez_compressed(file, x=np.where(mask, x, values))

    if not kind.scaled:
        return Holey(standardized(x, spec), mask, write)
    levels = levels_of(x, spec, f"x of {path}", mask) / np.float32(spec.levels - 1)
    return Holey(levels.reshape(shaped.shape), mask.reshape(shaped.shape), write)


def given_scale(filled: np.ndarray, x: np.ndarray, spec: Spec) -> np.ndarray:
    """Filled pictures, in [0, 1], on the scale of `x`, which had the holes."""
    filled = np.clip(filled, 0, 1)
    if x.dtype == np.uint8 or spec.pixels is None:
        # Images of two levels are 0 and 1, or 0 and 255.
        return filled * (255 if spec.levels == 256 else max(1, int(x.max())))
    return RULES[spec.pixels.rule].back(filled)
