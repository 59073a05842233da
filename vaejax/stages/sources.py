"""First stages of any make, and of any data that they can read: runs, and autoencoders
that diffusers wrote.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from vaejax.configs import Training
from vaejax.data import Dataset, Spec, open_dataset
from vaejax.data.dataset import Arrays
from vaejax.data.kinds import divided_sides, kind_of, require_images
from vaejax.data.preprocess import preprocess
from vaejax.data.reading import Reading
from vaejax.data.units import in_units, standardized
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.models import borrowed, conditional
from vaejax.sharing.diffusers import WEIGHTS, from_diffusers
from vaejax.sharing.manifest import is_of_hub
from vaejax.training.workdir import load


def is_diffusers(place: str) -> bool:
    """Whether a folder holds an autoencoder as diffusers stores it."""
    return not is_of_hub(place) and (Path(place) / WEIGHTS).is_file()


def open_first(
    place: str, data: str | Dataset = "", side: int = 0
) -> tuple[Experiment, TrainState]:
    """A first stage, and the data that it encodes.

    Args:
      place: a run, a shared model, or a folder of diffusers.
      data: what it encodes; empty: what it was trained on.
      side: pixels of a side that images are resized to; 0: those of training.

    Raises:
      InputError: there is no such model, or the data are none that it reads.
    """
    if is_diffusers(place):
        if not data:
            raise InputError(f"{place} was trained elsewhere: give --data, too")
        return borrowed_experiment(place, opened(data, side))
    experiment, state = load(place)
    known = experiment.arguments
    if not data or data == known.get("dataset") or data == experiment.dataset.spec.name:
        return experiment, state
    side = side or known.get("image_size", 0)
    return on_data(experiment, opened(data, side)), state


def opened(data: str | Dataset, side: int) -> Dataset:
    """The data; InputError where they have holes."""
    dataset = open_dataset(data, reading=Reading(size=side))
    if dataset.spec.masked:
        raise InputError(f"{dataset.spec.name} has holes: fill them before encoding")
    return dataset


def borrowed_experiment(place: str, dataset: Dataset) -> tuple[Experiment, TrainState]:
    """An autoencoder of diffusers as an experiment that was trained.

    Raises:
      InputError: the data are no images, have other channels, or sides that its
        factor does not divide.
    """
    spec = dataset.spec
    require_images(spec, f"the autoencoder {place}")
    found = from_diffusers(place)
    height, width, channels = spec.shape
    wanted = found.config.in_channels
    if channels != wanted:
        raise InputError(
            f"{place} reads images of {wanted} channels: those of {spec.name} have "
            f"{channels}{channel_remedy(wanted, channels)}"
        )
    divided_sides(spec, found.module.encoder.sizes.factor)
    experiment = Experiment(
        model=borrowed(found.module, (height, width, channels)),
        players=MappingProxyType({}),
        dataset=dataset,
        preprocess=preprocess(spec),
        metrics=lambda samples: {},
        selection=lambda values: math.nan,
        training=Training(),
        name=type(found.config).__name__.removesuffix("Config"),
    )
    params: dict[str, Any] = {"network": found.variables["params"]}
    return experiment, TrainState(jnp.zeros((), jnp.int32), params, {}, {}, {})


def on_data(experiment: Experiment, dataset: Dataset) -> Experiment:
    """The experiment with other data of its kind, in the units of training.

    Raises:
      InputError: the examples are not like those that it was trained on.
    """
    known, spec = experiment.dataset.spec, dataset.spec
    names = [[column.name for column in each.columns] for each in (known, spec)]
    if (spec.kind, spec.shape) != (known.kind, known.shape) or names[0] != names[1]:
        raise InputError(
            f"{experiment.name} was trained on {told(known)}: {spec.name} has "
            f"{told(spec)}{shape_remedy(known, spec)}"
        )
    levels = (known.levels, spec.levels)
    if levels[0] != levels[1] and levels != (256, 2):
        raise InputError(
            f"{experiment.name} was trained on {known.levels} levels: {spec.name} has "
            f"{spec.levels}"
        )
    new = known._replace(
        name=spec.name,
        classes=spec.classes,
        names=spec.names,
        unseen=spec.unseen,
        sizes=spec.sizes,
        digest=spec.digest,
        streams=spec.streams,
        first=spec.first,
        factors=spec.factors,
    )
    if conditional(experiment.model):
        new = new._replace(classes=known.classes, names=known.names)

    def split(name: str) -> Arrays:
        return like_training(dataset.split(name), known, spec, experiment)

    found = Dataset(new, split, dataset.examples)
    return dataclasses.replace(experiment, dataset=found)


def shape_remedy(known: Spec, spec: Spec) -> str:
    """How images of other channels or sides become like those of training."""
    if known.kind != spec.kind or len(known.shape) != 3:
        return ""
    if known.shape[-1] != spec.shape[-1]:
        return channel_remedy(known.shape[-1], spec.shape[-1])
    return f": resize them to {known.shape[0]} x {known.shape[1]}"


def channel_remedy(wanted: int, channels: int) -> str:
    """How images of one number of channels become ones of another, by Pillow."""
    modes = {1: ("grey", "L"), 3: ("colour", "RGB")}
    if wanted not in modes or channels not in modes:
        return ""
    kind, mode = modes[wanted]
    return f": save them in {kind}, by picture.convert({mode!r})"


def told(spec: Spec) -> str:
    """The kind and shape of data in words."""
    return f"{spec.kind}s of {' x '.join(map(str, spec.shape))}"


def like_training(
    arrays: Mapping[str, np.ndarray], known: Spec, spec: Spec, experiment: Experiment
) -> Arrays:
    """Examples of other data in the units and classes of training."""
    found = dict(arrays)
    if kind_of(spec).standardized:
        found["x"] = standardized(in_units(arrays["x"], spec), known)
    elif known.levels > spec.levels:
        found["x"] = arrays["x"] * np.uint8(known.levels - 1)
    if conditional(experiment.model):
        if "y" not in arrays:
            raise InputError(
                f"{experiment.name} is conditioned on labels: {spec.name} has none"
            )
        places = known.label_index(spec.class_names)
        known_label = arrays["y"] >= 0  # -1 is a label that training has not
        found["y"] = np.where(known_label, places[arrays["y"]], -1).astype(np.int32)
    return found
