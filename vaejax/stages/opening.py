"""Latents of a run as a data set: `latents:RUN`, `draws:RUN`."""

import hashlib
import sys
from collections.abc import Mapping

import numpy as np

from vaejax.data.dataset import Arrays, Dataset, in_memory
from vaejax.data.spec import FirstStage, Spec
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.memory import check_fits
from vaejax.runtime.storage import absolute
from vaejax.samplers.record import state_digest
from vaejax.sharing.manifest import hub_address, is_of_hub
from vaejax.stages.bulk import open_folder_of_latents
from vaejax.stages.cache import keep_latents, kept_latents
from vaejax.stages.encoding import (
    EncodedLatents,
    as_draws,
    encode_rows,
    latents_of,
)
from vaejax.stages.shards import is_latents_folder
from vaejax.training.workdir import load, readable_workdir

PREFIX = "latents"
DRAWS = "draws"


def open_latents(name: str) -> Dataset:
    """The latents of a trained run's data, split by split, with its labels.

    Codes of a quantized model, as they are; of others the means of q(z | x), a table
    where they are vectors. They are encoded once and kept in the run's folder, under
    the digest of its parameters.

    Args:
      name: the folder of a run or of a shared model, or hf://owner/name; or a folder
        that `encode.py --data` wrote.

    Raises:
      InputError: there is no such run, or it has no latents that can be data.
    """
    if not is_of_hub(name) and is_latents_folder(absolute(name)):
        manifest, splits = open_folder_of_latents(absolute(name))
        return dataset_of_latents(
            manifest.source, manifest.latents, manifest.first, splits
        )
    return open_encoded(name)


def open_draws(name: str) -> Dataset:
    """Draws of q(z | x) of a trained run's data, others at each access; with labels.

    As `open_latents` for the rest: `noise` of a split are the standard deviations.

    Args:
      name: the folder of a run or of a shared model, or hf://owner/name.

    Raises:
      InputError: as of `open_latents`, or q(z | x) is no diagonal Gaussian.
    """
    return open_encoded(name, draws=True)


def open_encoded(name: str, draws: bool = False) -> Dataset:
    """The latents of a trained run's data, its means or `draws`, and kept by it."""
    place = hub_address(name) if is_of_hub(name) else str(absolute(name))
    experiment, state = load(place)
    latents = latents_of(experiment, state)
    if draws:
        latents = as_draws(experiment, state, latents)
    first = FirstStage(place, latents.what, state_digest(state), int(state.step))
    workdir = readable_workdir(place)
    splits = kept_latents(workdir, first, latents, experiment.dataset.spec)
    if splits is None:
        splits = encode_splits(experiment, state, latents, place)
        keep_latents(workdir, first, splits)
    return dataset_of_latents(experiment.dataset.spec, latents, first, splits)


def encode_splits(
    experiment: Experiment, state: TrainState, latents: EncodedLatents, place: str
) -> dict[str, Arrays]:
    """Latents of all splits, encoded now."""
    spec = experiment.dataset.spec
    total = sum(spec.sizes.values())
    needed = total * int(np.prod(latents.shape)) * 4
    check_fits(needed, f"the latents of {spec.name}", "encode fewer examples")
    line = f"encodes {total:,} examples of {spec.name} by {place}"
    print(line, file=sys.stderr, flush=True)
    found = {}
    for split, size in spec.sizes.items():
        parts = list(encode_rows(experiment, state, latents, split, range(size)))
        found[split] = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    return found


def latents_digest(source: Spec, latents: EncodedLatents, first: FirstStage) -> str:
    """blake2b of what latents are made of: other machines round them differently."""
    made = (source.digest, first.what, first.digest, latents.shape)
    return hashlib.blake2b(repr(made).encode(), digest_size=16).hexdigest()


def dataset_of_latents(
    source: Spec,
    latents: EncodedLatents,
    first: FirstStage,
    splits: Mapping[str, Arrays],
) -> Dataset:
    """The data set of latents, which has the labels of what was encoded."""
    flat = {
        split: {n: a if n == "y" else a.reshape(len(a), -1) for n, a in arrays.items()}
        for split, arrays in splits.items()
    }
    prefix = DRAWS if latents.what == "draws" else PREFIX
    spec = Spec(
        name=f"{prefix}:{first.run}",
        kind=latents.kind,
        shape=latents.shape,
        levels=latents.levels,
        classes=source.classes,
        sizes={split: len(arrays["x"]) for split, arrays in flat.items()},
        digest=latents_digest(source, latents, first),
        names=source.names,
        unseen=source.unseen,
        nearly_binary=False,
        first=first,
    )
    return in_memory(spec, flat)
