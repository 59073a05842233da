"""The columns of a data set of Hugging Face that are read: pictures or numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vaejax.errors import InputError

PICTURES = ("image", "img", "picture")
LABELS = ("label", "labels", "class", "target", "y")
"""Names that decide where several columns may be meant."""
NUMBERS = ("int", "uint", "float", "double", "bool", "half")


class Columns(NamedTuple):
    """The columns that are read, by name, and those that are not."""

    picture: str
    """Empty of tables."""
    numbers: tuple[str, ...]
    """Empty of pictures."""
    label: str
    """Empty where there are no labels."""
    names: tuple[str, ...]
    """Names of a declared label's numbers."""
    unused: tuple[str, ...]


def choose_columns(splits: Mapping[str, Any], where: str) -> Columns:
    """One column of pictures, else all columns of numbers; and a label.

    InputError, which lists the columns, where they are something else.
    """
    features = splits["train"].features
    for split, rows in splits.items():
        if rows.features != features:
            raise InputError(f"{where}: columns of {split} are not those of train")
    kinds = {name: kind_of_feature(feature) for name, feature in features.items()}
    label = one_of_several(kinds, "class", LABELS, where)
    plain = [n for n in LABELS if kinds.get(n) in ("number", "text")]
    label = label or (plain[0] if plain else "")
    names = tuple(features[label].names) if kinds.get(label) == "class" else ()
    picture = one_of_several(kinds, "picture", PICTURES, where)
    rest = [name for name in kinds if name not in (label, picture)]
    if picture:
        return Columns(picture, (), label, names, tuple(rest))
    odd = [name for name in rest if kinds[name] not in ("number", "class")]
    if odd or not rest:
        raise InputError(
            f"{where} has neither one column of pictures nor numbers alone: it has "
            f"{column_list(features)}; keep what is meant by .select_columns([...])"
            ".save_to_disk(PATH), or write a table by .to_csv(PATH) and open csv:PATH"
        )
    return Columns("", tuple(rest), label, names, ())


def kind_of_feature(feature: Any) -> str:
    """`picture`, `class`, `number`, `text` or `other`."""
    import datasets

    if isinstance(feature, datasets.Image):
        return "picture"
    if isinstance(feature, datasets.ClassLabel):
        return "class"
    if not isinstance(feature, datasets.Value):
        return "other"
    if feature.dtype.startswith(NUMBERS):
        return "number"
    return "text" if feature.dtype in ("string", "large_string") else "other"


def one_of_several(
    kinds: Mapping[str, str], kind: str, first: tuple[str, ...], where: str
) -> str:
    """The column of a kind, empty where there is none; of several that whose name is
    the usual one, else an InputError.
    """
    found = [name for name, each in kinds.items() if each == kind]
    if len(found) < 2:
        return found[0] if found else ""
    usual = [name for name in first if name in found]
    if not usual:
        raise InputError(
            f"{where} has several columns of that kind ({kind}), {', '.join(found)}: "
            f"rename the one that is meant to {first[0]!r} and save_to_disk(PATH)"
        )
    return usual[0]


def column_list(features: Mapping[str, Any], most: int = 12) -> str:
    """The columns with their types."""
    texts = [
        f"{name} ({getattr(feature, 'dtype', None) or type(feature).__name__})"
        for name, feature in features.items()
    ]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def label_values(rows: Any, column: str, where: str) -> np.ndarray:
    """The labels of a split `[N]` as they are stored; InputError where one is none."""
    values = list(rows[column])
    if None in values:
        row = values.index(None)
        raise InputError(f"{where} has no {column} in row {row}: leave those rows out")
    return np.array(values)


def number_values(rows: Any, columns: tuple[str, ...]) -> np.ndarray:
    """The numbers of a split `[N, columns]`, float64; NaN where there is none."""
    x = np.empty((len(rows), len(columns)))
    for place, name in enumerate(columns):
        x[:, place] = [np.nan if v is None else v for v in rows[name]]
    return x
