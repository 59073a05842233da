"""Data sets of Hugging Face `datasets` on this disk: `hf:PATH`, `hf:NAME[:CONFIG]`.

A path is one that `save_to_disk` has written; a name is looked for in the cache of
`datasets`. Arrow files and JSON alone are read: nothing is downloaded and no code of a
data set is run.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vaejax.data.checks import check_no_infinity
from vaejax.data.dataset import Arrays, Dataset, describe
from vaejax.data.hfcolumns import (
    Columns,
    choose_columns,
    label_values,
    number_values,
)
from vaejax.data.quiet import one_line, quiet
from vaejax.data.reading import LIMIT, Reading
from vaejax.data.records import Record
from vaejax.data.splits import TEST_SHARE, cut
from vaejax.data.wanted import of_arrays
from vaejax.errors import InputError
from vaejax.runtime.storage import absolute, is_remote

SAVED = ("dataset_dict.json", "state.json")
"""Files of which `save_to_disk` writes one: of several splits, of a single one."""
NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?")
SPLITS = {
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}


class Source(NamedTuple):
    """The place of a data set: small, and can be sent to other processes."""

    folder: str
    """That of `save_to_disk`; empty of the cache."""
    name: str = ""
    config: str = ""

    def __str__(self) -> str:
        config = f":{self.config}" if self.config else ""
        return f"hf:{self.folder or self.name + config}"


class HubPictures:
    """The pictures of one split."""

    remedy = "mend or remove that row"

    def __init__(
        self, source: Source, split: str, column: str, labels: np.ndarray
    ) -> None:
        self.labels = labels
        self._where = source, split, column
        self._rows: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_rows": None}

    def _opened(self) -> Any:
        if self._rows is None:
            import datasets

            source, split, column = self._where
            stored = open_source(source)[split].select_columns([column])
            with quiet():
                self._rows = stored.cast_column(column, datasets.Image(decode=False))
        return self._rows

    def __len__(self) -> int:
        return len(self.labels)

    def _content(self, stored: Mapping[str, Any] | None) -> bytes:
        if not stored:
            raise ValueError("there is no picture")
        return stored["bytes"] or Path(stored["path"]).read_bytes()

    def take(self, rows: Sequence[int]) -> list[Record]:
        found = self._opened()[list(rows)][self._where[2]]
        return [
            Record(self._content(stored), int(self.labels[row]))
            for row, stored in zip(rows, found, strict=True)
        ]

    def file(self, row: int) -> BinaryIO:
        return io.BytesIO(self.take([row])[0].content)

    def where(self, row: int) -> str:
        source, split, _ = self._where
        return f"row {row} of split {split!r} of {source}"


def open_hf(text: str, counts: Sequence[str], reading: Reading) -> Dataset:
    """The data set of that path or name.

    Raises:
      InputError: `datasets` is not installed, there is no such set here, or its columns
        are neither pictures nor numbers.
    """
    source = source_of(text)
    stored, others = splits_of(open_source(source), source)
    columns = choose_columns(stored, str(source))
    if counts and columns.picture:
        raise InputError("--counts are columns of a csv:, npz: or hf: table")
    remarks = [f"splits left out: {', '.join(others)}"] if others else []
    if columns.unused:
        remarks.append(f"columns left out: {', '.join(columns.unused)}")
    if columns.picture:
        return open_pictures(source, stored, columns, reading, remarks)
    return open_numbers(source, stored, columns, counts, remarks)


def source_of(text: str) -> Source:
    """The set that is meant; InputError where it is no path and no name of one."""
    path = absolute(text)
    if is_remote(path):
        raise InputError(f"{path} is in a bucket: copy it here first")
    if any((path / name).is_file() for name in SAVED):
        return Source(str(path))
    found = NAME.fullmatch(text)
    if not found or path.is_dir() or text.startswith("."):
        raise InputError(
            f"{path} is no data set that save_to_disk has written: write one, or open "
            "pictures by folder:PATH, tables by csv:PATH"
        )
    return Source("", found[1], found[2] or "")


def open_source(source: Source) -> Mapping[str, Any]:
    """The splits there by name; a lone one is `train`."""
    try:
        with quiet():
            import datasets
    except ImportError:
        raise InputError(f"{source} needs datasets: pip install 'vaejax[hf]'") from None
    try:
        with quiet():
            if source.folder:
                found: Any = datasets.load_from_disk(source.folder)
            else:
                found = cached(source).as_dataset()
    except InputError:
        raise
    except Exception as error:  # whatever datasets or Arrow raise
        raise InputError(f"{source} cannot be read ({one_line(error)})") from error
    return {"train": found} if isinstance(found, datasets.Dataset) else found


def cached(source: Source) -> Any:
    """The builder of a set in the cache of `datasets`; InputError where it has none."""
    # `load_dataset` would ask the network first, and reads folders of that name.
    from datasets.packaged_modules.cache.cache import Cache

    try:
        return Cache(
            dataset_name=source.name.split("/")[-1],
            repo_id=source.name,
            config_name=source.config or None,
            version="auto",
            hash="auto",
        )
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        more = f" ({'; '.join(lines[:2])})" if len(lines) > 1 else ""
        given = ", ".join(map(repr, filter(None, source[1:])))
        raise InputError(
            f"{source} is not in the cache of datasets{more}: name a configuration as "
            f"hf:NAME:CONFIG, or download it once, by datasets.load_dataset({given})"
        ) from None


def splits_of(
    found: Mapping[str, Any], source: Source
) -> tuple[dict[str, Any], list[str]]:
    """The splits by our names for them, and names of others."""
    known = {
        name: SPLITS[name] for name in found if name in SPLITS and len(found[name])
    }
    stored = {split: found[name] for name, split in known.items()}
    if len(stored) < len(known):
        raise InputError(
            f"{source} has the splits {', '.join(known)}: keep one of each"
        )
    if "train" not in stored:
        raise InputError(
            f"{source} has no split train: it has {', '.join(found) or 'none'}"
        )
    return stored, [name for name in found if name not in known]


def open_pictures(
    source: Source,
    stored: Mapping[str, Any],
    columns: Columns,
    reading: Reading,
    remarks: list[str],
) -> Dataset:
    """The data set of a column of pictures."""
    from vaejax.data.gallery import pictures_dataset  # loads PIL

    labels, names = class_indices(stored, columns, source)
    if columns.label and not names:
        remarks.append(f"{columns.label} is -1 in some rows: no labels are read")
    found = open_source(source)
    called = {SPLITS[name]: name for name in found if name in SPLITS}
    splits = {
        split: HubPictures(source, called[split], columns.picture, labels[split])
        for split in stored
    }
    files = [
        (split, Path(file["filename"]).name, Path(file["filename"]).stat().st_size)
        for split, rows in stored.items()
        for file in rows.cache_files
    ]
    return pictures_dataset(str(source), splits, names, reading, files, remarks)


def class_indices(
    stored: Mapping[str, Any], columns: Columns, source: Source
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Labels by their places among the names of classes; zeros and no names where
    there are no labels, or -1, which stands for none.
    """
    none = {split: np.zeros(len(rows), np.int32) for split, rows in stored.items()}
    if not columns.label:
        return none, ()
    found = {
        split: label_values(rows, columns.label, f"{split} of {source}")
        for split, rows in stored.items()
    }
    numbers = all(y.dtype.kind in "iu" for y in found.values())
    if numbers and any(y.min() < 0 for y in found.values()):
        return none, ()
    names = columns.names
    if not names:
        distinct = np.unique(np.concatenate(list(found.values())))
        found = {split: np.searchsorted(distinct, y) for split, y in found.items()}
        names = tuple(map(str, distinct.tolist()))
    return {split: y.astype(np.int32) for split, y in found.items()}, names


def open_numbers(
    source: Source,
    stored: Mapping[str, Any],
    columns: Columns,
    counts: Sequence[str],
    remarks: list[str],
) -> Dataset:
    """The table of columns of numbers, in their own units."""
    size = sum(map(len, stored.values())) * len(columns.numbers) * 8
    if size > LIMIT:
        raise InputError(
            f"{source} is a table of {size / 2**30:.1f} GiB: only pictures stream, and "
            f"{LIMIT / 2**30:.0f} GiB are held in memory; give fewer rows or columns"
        )
    labels, names = class_indices(stored, columns, source)
    splits: dict[str, Arrays] = {}
    for split, rows in stored.items():
        x = number_values(rows, columns.numbers)
        check_no_infinity(x, f"{split} of {source}")
        splits[split] = {"x": x} | ({"y": labels[split]} if names else {})
    if "test" not in splits:
        train, test = cut(splits["train"], TEST_SHARE, purpose=0, what=str(source))
        splits |= {"train": train, "test": test}
    kinds = of_arrays(splits, columns.numbers, counts, str(source))
    found = describe(str(source), splits, len(names), kinds, names)
    return found._replace(spec=found.spec._replace(remarks=tuple(remarks)))
