"""Codes and rows of tables as files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaejax.apply.own import Codes
from vaejax.apply.tables import cells_of
from vaejax.data.spec import Column, Dialect, Spec
from vaejax.runtime.storage import write_whole


def write_codes(codes: Codes, out: Path) -> None:
    """Columns mean_0, ..., scale_0, ... of a `.csv`; arrays mean, scale of a `.npz`;
    and label, where there are labels.
    """
    arrays = {name: a for name, a in codes._asdict().items() if a is not None}
    if out.suffix == ".npz":
        write_npz(out, arrays)
        return
    import pandas as pd

    parts = {
        f"{name}_{place}" if values.ndim > 1 else name: column
        for name, values in arrays.items()
        for place, column in enumerate(values.reshape(len(values), -1).T)
    }
    write_whole(out, pd.DataFrame(parts).to_csv(index=False))


def write_npz(out: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Compressed arrays by name, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **dict[str, Any](arrays))
    write_whole(out, content.getvalue())


def write_rows(x: np.ndarray, spec: Spec, out: Path) -> None:
    """A table in the model's units as a `.csv` in its own: names, texts and numbers.

    Separator, decimal sign and encoding are those of the file that was trained on.
    """
    import pandas as pd

    columns, known = column_names(spec), spec.dialect or Dialect()
    named = np.array([bool(column.values) for column in columns])
    nearest = np.where(named, np.rint(x), x)  # of means of bits
    texts = cells_of(nearest, spec._replace(columns=columns), decimal=known.decimal)
    frame = pd.DataFrame(texts, columns=[column.name for column in columns])
    header = known.header == "first"
    text = frame.to_csv(index=False, sep=known.separator, header=header)
    write_whole(out, text.encode(known.encoding))


def column_names(spec: Spec) -> tuple[Column, ...]:
    """The columns of a table; 0, 1, ... where they have no names."""
    return spec.columns or tuple(Column(str(n)) for n in range(spec.shape[0]))
