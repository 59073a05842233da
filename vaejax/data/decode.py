"""Prepared TFDS sets to arrays: some ten thousand images a second, so cached."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from vaejax.data.checks import check_no_infinity
from vaejax.data.dataset import Arrays, Dataset, describe
from vaejax.data.examples import Examples
from vaejax.data.features import Roles, check_table_size, choose_features, counts
from vaejax.data.images import dataset_of, labelled
from vaejax.data.quiet import one_line, quiet
from vaejax.data.reading import Reading
from vaejax.data.shards import Shards, files_of
from vaejax.data.splits import TEST_SHARE, cut
from vaejax.errors import InputError

_CHUNK = 1000


def decode_splits(name: str, folder: Path, reading: Reading = Reading()) -> Dataset:
    """Reads every split of a prepared set; tables in their own units.

    Of images that stream few are read now.

    InputError where it has neither images nor a table, is a table that is too large, or
    is stored so that only TensorFlow can read it.
    """
    try:
        with quiet():
            builder = tfds.builder_from_directory(folder)
        return _decode(name, builder, folder, reading)
    except InputError:
        raise
    except Exception as error:  # whatever TFDS, array_record or PIL raise
        raise InputError(
            f"the prepared set {folder} cannot be read ({one_line(error)}): "
            "remove that folder to prepare it again"
        ) from error


def _decode(
    name: str, builder: tfds.core.DatasetBuilder, folder: Path, reading: Reading
) -> Dataset:
    info = builder.info
    roles = choose_features(info.features, name, reading)
    sizes = counts(info)
    _check_format(name, builder)
    if frame := roles.frame:
        how = frame, roles.y is not None, reading.skip, 0, len(roles.factors)
        images = {
            split: Examples(Shards(folder, split, roles), *how) for split in sizes
        }
        stored = [_stored(info, split) for split in sizes]
        classes, factors = roles.classes, roles.factors
        found = dataset_of(name, images, classes, reading, stored, factors)
        return _called(found, roles.names)
    check_table_size(sum(sizes.values()), roles, name)
    with quiet():
        splits = {split: _read(builder, split, roles) for split in sizes}
    splits = _with_test(name, labelled(splits))
    for split, arrays in splits.items():
        check_no_infinity(arrays["x"], f"{split} of {name!r}")
    found = describe(name, splits, roles.classes if "y" in splits["train"] else 0)
    return _called(found, roles.names)


def _called(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The set with names of its classes, where it has labels."""
    spec = dataset.spec
    return dataset._replace(spec=spec._replace(names=names if spec.classes else ()))


def _stored(info: tfds.core.DatasetInfo, split: str) -> list[tuple[str, int, int]]:
    """Name, records and bytes of each file of a split."""
    files = files_of(info, split)
    return [(path.name, count, path.stat().st_size) for path, count in files]


def _check_format(name: str, builder: tfds.core.DatasetBuilder) -> None:
    formats = builder.info.available_file_formats()
    if tfds.core.FileFormat.ARRAY_RECORD not in formats:
        stored = ", ".join(sorted(form.value for form in formats))
        raise InputError(
            f"{name!r} in {builder.data_dir} is stored as {stored}, not array_record: "
            f"prepare it in another TFDS_DATA_DIR by tfds.builder({name!r}, "
            "file_format='array_record').download_and_prepare()"
        )


def _read(builder: tfds.core.DatasetBuilder, split: str, roles: Roles) -> Arrays:
    source = builder.as_data_source(
        split,  # pyright: ignore[reportCallIssue]  TFDS's decorator hides it
    )
    x = np.empty((len(source), *roles.shape), np.float64)
    y = np.zeros(len(source), np.int32)
    for start in range(0, len(source), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(source)))
        for row, example in zip(rows, source.__getitems__(rows), strict=True):
            x[row] = example[roles.x]
            y[row] = example[roles.y] if roles.y else 0
    return {"x": x, "y": y} if roles.y else {"x": x}


def _with_test(name: str, splits: dict[str, Arrays]) -> dict[str, Arrays]:
    if "train" not in splits:
        raise InputError(f"{name!r} has no training split: choose another set")
    if "test" in splits:
        return splits
    train, test = cut(splits["train"], TEST_SHARE, purpose=0, what=repr(name))
    return splits | {"train": train, "test": test}
