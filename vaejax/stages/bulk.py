"""Encoding a whole data set into a folder of shards, and opening it again."""

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.data.spec import FirstStage
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.nn.layers import PrecisionName
from vaejax.runtime.limits import check_count
from vaejax.runtime.memory import check_fits
from vaejax.runtime.storage import absolute, check_new_folder
from vaejax.samplers.record import state_digest
from vaejax.sharing.diffusers import from_diffusers
from vaejax.sharing.manifest import hub_address, is_of_hub
from vaejax.stages.encoding import batch_rows, encode_rows, latents_of
from vaejax.stages.shards import (
    FORMAT,
    FormatName,
    LatentsManifest,
    Scaling,
    is_latents_folder,
    read_latents_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from vaejax.stages.sources import is_diffusers, open_first


class BulkSettings(NamedTuple):
    """The settings of encoding a whole data set."""

    data: str
    """What is encoded, by a name that `--dataset` takes."""
    image_size: int = 0
    """Pixels of a side that images are resized to; 0: those of training."""
    batch_size: int = 0
    """Examples at a time; 0: by their size."""
    shards: FormatName = "npz"
    """The format of the shards."""
    shard_rows: int = 10_000
    """Examples of a shard."""
    scaled: bool = False
    """Whether latents are scaled as diffusion models of this autoencoder want them."""
    precision: PrecisionName = "f32"
    """That of hidden layers."""


def encode_bulk(place: str, out: Path, settings: BulkSettings) -> LatentsManifest:
    """Writes the latents of a whole data set, split by split, shard by shard.

    Shards that are there, of the same command, stay: each is whole or absent.

    Args:
      place: a run, a shared model, hf://owner/name, or a folder of diffusers.
      out: a folder that is empty, not there, or of the same command.
      settings: the data, and how they are written.

    Raises:
      InputError: the model does not read the data, or the folder holds something else.
    """
    check_count("batch_size", settings.batch_size)
    check_count("shard_rows", settings.shard_rows, 1)
    place = hub_address(place) if is_of_hub(place) else str(absolute(place))
    experiment, state = open_first(place, settings.data, settings.image_size)
    manifest = manifest_of_bulk(place, experiment, state, settings)
    claim_folder(out, manifest)
    begun, total = time.perf_counter(), 0
    for split in manifest.source.sizes:
        for name, rows in manifest.names(split):
            if (out / name).exists():
                continue
            parts = list(
                encode_rows(
                    experiment,
                    state,
                    manifest.latents,
                    split,
                    rows,
                    manifest.batch_size,
                    manifest.precision,
                )
            )
            arrays = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
            arrays["x"] = manifest.scaling.scaled(arrays["x"])
            write_shard(out / name, arrays)
            total += len(rows)
            speed = total / (time.perf_counter() - begun)
            line = f"{name}: {len(rows):,} examples, {speed:,.0f} examples/s"
            print(line, file=sys.stderr, flush=True)
    return manifest


def manifest_of_bulk(
    place: str, experiment: Experiment, state: TrainState, settings: BulkSettings
) -> LatentsManifest:
    """What will be written."""
    latents, spec = latents_of(experiment, state), experiment.dataset.spec
    first = FirstStage(
        run=place,
        what=latents.what,
        digest=state_digest(state),
        step=int(state.step),
        source=settings.data,
        side=settings.image_size,
    )
    scaling = Scaling(applied=settings.scaled)
    if is_diffusers(place):
        shift, factor = from_diffusers(place).of_channels
        scaling = Scaling(factor, shift, settings.scaled)
    elif settings.scaled:
        raise InputError(
            "--scaled is of autoencoders of diffusers, which name a factor"
        )
    if latents.levels and settings.scaled:
        raise InputError("--scaled is of latents that are numbers: these are codes")
    return LatentsManifest(
        format=FORMAT,
        first=first,
        latents=latents,
        scaling=scaling,
        source=spec,
        shards=settings.shards,
        shard_rows=settings.shard_rows,
        batch_size=settings.batch_size or batch_rows(spec.shape),
        precision=settings.precision,
    )


def claim_folder(out: Path, manifest: LatentsManifest) -> None:
    """Makes the folder these latents', or checks that it is already.

    InputError where it holds something else, with what differs.
    """
    if is_latents_folder(out):
        old, new = (
            as_json(m.to_json()) for m in (read_latents_manifest(out), manifest)
        )
        differing = [name for name in new if old[name] != new[name]]
        if differing:
            raise InputError(
                f"{out} holds latents of another command, which differ in "
                f"{', '.join(differing)}: give another --out, or the same settings"
            )
        return
    check_new_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, manifest)


def as_json(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def open_folder_of_latents(folder: Path) -> tuple[LatentsManifest, dict[str, Arrays]]:
    """The manifest and the latents of a folder, as the first stage decodes them.

    Raises:
      InputError: a shard is missing or damaged, or they do not fit the memory.
    """
    manifest = read_latents_manifest(folder)
    sizes = manifest.source.sizes
    needed = sum(sizes.values()) * int(np.prod(manifest.latents.shape)) * 8
    check_fits(needed, f"the latents of {folder}", "encode fewer examples")
    found = {}
    for split in sizes:
        parts = [
            read_shard(folder / name, manifest, len(rows))
            for name, rows in manifest.names(split)
        ]
        arrays = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
        found[split] = {**arrays, "x": manifest.scaling.unscaled(arrays["x"])}
    return manifest, found
