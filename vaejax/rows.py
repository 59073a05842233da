"""Codes and rows of tables as files."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaejax.data.dataset import Column, Spec
from vaejax.data.schema import text_of
from vaejax.data.units import in_units
from vaejax.own import Codes
from vaejax.paths import write_whole


def write_codes(codes: Codes, out: Path) -> None:
    """Columns mean_0, ..., scale_0, ... of a `.csv`; arrays mean, scale of a `.npz`."""
    if out.suffix == ".npz":
        write_npz(out, codes._asdict())
        return
    import pandas as pd

    parts = {
        f"{name}_{place}": column
        for name, values in codes._asdict().items()
        for place, column in enumerate(values.T)
    }
    write_whole(out, pd.DataFrame(parts).to_csv(index=False))


def write_npz(out: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Compressed arrays by name, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(out, content.getvalue())


def write_rows(x: np.ndarray, spec: Spec, out: Path) -> None:
    """A table in the model's units as a `.csv` in its own: names, texts and numbers."""
    import pandas as pd

    columns = columns_of(spec)
    values = in_units(x, spec)
    cells = {
        column.name: [text_of(value, column) for value in whole(own, column)]
        for own, column in zip(values.T, columns, strict=True)
    }
    write_whole(out, pd.DataFrame(cells).to_csv(index=False))


def columns_of(spec: Spec) -> tuple[Column, ...]:
    """The columns of a table; 0, 1, ... where they have no names."""
    return spec.columns or tuple(Column(str(n)) for n in range(spec.shape[0]))


def whole(values: np.ndarray, column: Column) -> np.ndarray:
    """Values of a column; the nearest of a binary column or a category."""
    return np.rint(values) if column.values else values
