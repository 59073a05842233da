"""Users' own examples beside the data that was trained on: codes, and evaluation."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.apply import query
from vaejax.apply.capabilities import require_encoder
from vaejax.apply.tables import open_holey
from vaejax.data.arrays import read_npz
from vaejax.data.checks import check_mask, check_x
from vaejax.data.classes import check_y, labels_of, plain
from vaejax.data.dataset import Arrays, in_memory
from vaejax.data.folder import read_own_folder
from vaejax.data.holes import hide
from vaejax.data.kinds import kind_of, with_channels
from vaejax.data.own import levels_of, stored_rows
from vaejax.data.reading import Reading
from vaejax.data.spec import Spec
from vaejax.data.wanted import check_counts
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.models import classifies, conditional
from vaejax.runtime.limits import check_count

SPLITS = ("", "_test", "_train")
"""Ends of an npz file's keys, in the order in which they are looked for."""


class Codes(NamedTuple):
    """q(z | x) of each example, in the order of the examples."""

    mean: np.ndarray
    """`[N, latents]`."""
    scale: np.ndarray
    """Standard deviations, `[N, latents]`; 0 where the encoder is deterministic."""
    label: np.ndarray | None = None
    """The data's own labels `[N]`, where the file has any."""


def read_own(path: Path, spec: Spec, reading: Reading = Reading()) -> Arrays:
    """Examples of a `.csv`, an `.npz` or a folder of pictures, as a split of the data
    that was trained on; pictures are resized as `reading` says.

    `x` `[N, H * W * C]` uint8 of images, `[N, D]` float32 standardized by the training
    split of tables; `mask` where training had holes; `y` `[N]`, indices of classes,
    where the file has labels. Of an npz file, `x` is read, else `x_test` or `x_train`,
    with `y` and `mask` alike.

    Raises:
      InputError: it is none of these, its examples are not like those that were trained
        on, or it has holes and the model was trained on complete data.
    """
    if path.is_dir():
        arrays = read_own_folder(path, spec, reading)
        mask = np.ones(arrays["x"].shape, bool)
        levels = levels_of(arrays["x"], spec, str(path), mask)
        arrays |= {"x": levels.reshape(len(levels), -1)}
    elif path.suffix == ".npz":
        arrays, mask = from_npz(path, spec)
    else:
        holey = open_holey(path, spec)
        arrays, mask = {"x": holey.x}, holey.mask
    count = len(arrays["x"])
    if not count:
        raise InputError(f"{path} holds no examples")
    if spec.masked:
        return arrays | {"mask": mask.reshape(count, -1).astype(np.uint8)}
    if not mask.all():
        raise InputError(
            f"{path} has holes, and the model was trained on complete data: fill them, "
            "or train on examples with holes"
        )
    return arrays


def from_npz(path: Path, spec: Spec) -> tuple[Arrays, np.ndarray]:
    """The arrays of a file, and its mask, bool in the shape of x."""
    arrays = read_npz(path)
    end = next((end for end in SPLITS if f"x{end}" in arrays), None)
    if end is None:
        raise InputError(f"{path} has no array x: it has {', '.join(arrays)}")
    what, x = f"x{end} of {path}", arrays[f"x{end}"]
    check_x(x, what)
    mask = arrays.get(f"mask{end}", np.ones(x.shape, bool))
    check_mask(mask, x, f"mask{end} of {path}")
    mask = (mask == 1) & ~np.isnan(x)
    shape = with_channels(x, spec).shape[1:]
    if shape != spec.shape:
        raise InputError(f"{what} holds examples {shape}: the model's are {spec.shape}")
    if kind_of(spec).named:
        order = columns_in_order(arrays.get("columns"), spec, str(path))
        x, mask = x[:, order], mask[:, order]
        names = [column.name for column in spec.columns]
        counts = {column.name for column in spec.columns if column.kind == "count"}
        check_counts(np.where(mask, x, np.nan), names, counts, str(path))
    found = {"x": stored_rows(x, mask, spec, what).reshape(len(x), -1)}
    if f"y{end}" in arrays and spec.classes:
        y = plain(arrays[f"y{end}"])
        check_y(y, len(x), f"y{end} of {path}")
        found["y"] = spec.label_index(y)
    return found, mask


def columns_in_order(names: np.ndarray | None, spec: Spec, where: str) -> list[int]:
    """Places of the model's columns in a file that names its own."""
    wanted = [column.name for column in spec.columns]
    if names is None or not wanted:
        return list(range(spec.shape[0]))
    place = {name: n for n, name in enumerate(map(str, names))}
    lacking = [name for name in wanted if name not in place]
    if lacking:
        raise InputError(f"{where} has no column {lacking[0]!r}, which training had")
    return [place[name] for name in wanted]


def check_labels(experiment: Experiment, arrays: Arrays, path: Path) -> None:
    """InputError where labels are needed and the file has none."""
    model = experiment.model
    if "y" not in arrays and (conditional(model) or classifies(model)):
        raise InputError(
            f"{path} has no labels, which {experiment.name} needs: give an .npz with y"
        )


def own_of(experiment: Experiment, path: Path) -> Arrays:
    """The examples of a file or folder, with the labels that the experiment needs."""
    known = experiment.arguments
    reading = Reading(size=known.get("image_size", 0), crop=known.get("random_crop", 0))
    arrays = read_own(path, experiment.dataset.spec, reading)
    check_labels(experiment, arrays, path)
    return arrays


def on_own(experiment: Experiment, path: Path) -> Experiment:
    """The experiment whose test split is the examples of a file.

    What training hid on purpose (`--hide`) is hidden here, too.
    """
    spec = experiment.dataset.spec
    arrays = own_of(experiment, path)
    known = spec._replace(
        sizes={"test": len(arrays["x"])}, hidden=False, streams=False, unseen=()
    )
    dataset = in_memory(known, {"test": arrays})
    if spec.hidden:
        names = ("hide", "hide_rate", "hide_columns", "hide_seed")
        dataset = hide(dataset, *(experiment.arguments[name] for name in names))
    return dataclasses.replace(experiment, dataset=dataset)


def encode_own(
    experiment: Experiment,
    state: TrainState,
    path: Path,
    batch_size: int = 500,
    seed: int = 0,
) -> Codes:
    """The posterior of each example of a file, `batch_size` at a time.

    Raises:
      InputError: the model has no encoder, or the examples are not like those that were
        trained on.
    """
    check_count("batch_size", batch_size, 1)
    require_encoder(experiment, ": choose another run")
    arrays = own_of(experiment, path)
    count, key = len(arrays["x"]), jax.random.key(seed)
    size, means, scales = min(batch_size, count), [], []
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count  # the last is filled up
        raw = {name: jnp.asarray(array[rows]) for name, array in arrays.items()}
        raw["index"] = jnp.asarray(rows, jnp.int32)
        batch = experiment.preprocess.apply(raw, jax.random.fold_in(key, start))
        # A context follows from x: that of preprocessing may be any part, by chance.
        known = {name: batch[name] for name in ("x", "y", "mask") if name in batch}
        q: Any = query.encode(experiment, state, known)
        means.append(np.asarray(q.mean))
        scales.append(np.sqrt(np.asarray(q.variance)))
    mean, scale = (np.concatenate(each)[:count] for each in (means, scales))
    names = experiment.dataset.spec.class_names
    return Codes(mean, scale, labels_of(arrays["y"], names) if "y" in arrays else None)
