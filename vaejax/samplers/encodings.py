"""Encodings of the training split: draws of the aggregated posterior."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.apply.capabilities import latent_shape, require_encoder
from vaejax.data.feed import permutation
from vaejax.distributions.properties import reparameterized
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import conditional, conditions_of
from vaejax.purposes import OfStep
from vaejax.types import Array, Batch, Key, Variables

MOST = 60_000
"""Training examples that are encoded: of more, a fixed sample."""
TARGET = 20_000
"""Draws that suffice: of fewer examples each is drawn several times."""
BATCH = 500


class Encodings(NamedTuple):
    """Draws z ~ q(z | x) of training examples x, the passes over them one by one."""

    z: np.ndarray
    """`[passes * N, latents]`, float64, maps flattened."""
    y: np.ndarray | None
    """Labels of a conditional model, int32."""
    shape: tuple[int, ...]
    """Shape of one example's latents."""
    classes: int
    """Number of labels of a conditional model, else 0."""
    passes: int


def encodings_of(experiment: Experiment, state: TrainState, key: Key) -> Encodings:
    """Encodings of the training split, with the noise of preprocessing and posterior.

    They are draws of the aggregated posterior 1/N sum_n q(z | x_n), which is what the
    decoder was trained on; of a deterministic encoder its outputs.

    Raises:
      InputError: there is no encoder, the model is conditioned on more than labels, or
        an encoding is not finite.
    """
    require_encoder(experiment, ", which samplers are fitted to: use --sampler prior")
    if unknown := [n for n in conditions_of(experiment.model) if n != "y"]:
        raise InputError(
            f"{experiment.name} draws its latents given {', '.join(unknown)}, which no "
            "fitted sampler knows: use --sampler prior"
        )
    shape = latent_shape(experiment, state)
    labelled = conditional(experiment.model)
    if labelled and experiment.dataset.spec.unlabelled:
        raise InputError(
            f"{experiment.name} is conditioned on labels, which most of its training "
            "examples lack: use --sampler prior"
        )
    parts, labels = [], []
    size = min(experiment.dataset.spec.sizes["train"], MOST)
    for number in range(min(5, math.ceil(TARGET / size))):
        z, y = one_pass(experiment, state, jax.random.fold_in(key, number), shape)
        if parts and np.array_equal(z, parts[0]):
            break  # no noise: another pass adds nothing
        parts.append(z)
        labels.append(y)
    every = np.concatenate(parts)
    if not np.isfinite(every).all():
        raise InputError(
            f"{experiment.name} encodes training examples as what is no number: its "
            "model diverged"
        )
    if np.isin(every, (0, 1)).all():
        raise InputError(
            f"{experiment.name} encodes as categories, which no fitted sampler draws: "
            "use --sampler prior"
        )
    classes = experiment.dataset.spec.classes if labelled else 0
    y = np.concatenate(labels) if labelled else None
    return Encodings(every, y, shape, classes, len(parts))


def one_pass(
    experiment: Experiment, state: TrainState, key: Key, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A draw for each training example `[N, latents]`, and the labels `[N]`."""
    encode = parallel.compile_function(draw_encoding, experiment.model)
    found, labels = [], []
    for number, (raw, real) in enumerate(raw_batches(experiment)):
        own = jax.random.fold_in(key, number)
        data_key = jax.random.fold_in(own, OfStep.DATA)
        batch = experiment.preprocess.apply(raw, data_key)
        z = encode(variables_of(state), batch, jax.random.fold_in(own, OfStep.PLAYERS))
        if z.shape[1:] != shape:
            raise InputError(
                f"{experiment.name} encodes as {list(z.shape[1:])}, and decodes from "
                f"{list(shape)}: use --sampler prior"
            )
        found.append(np.asarray(z, np.float64).reshape(len(z), -1)[:real])
        labels.append(np.asarray(raw.get("y", raw["index"]))[:real])
    return np.concatenate(found), np.concatenate(labels).astype(np.int32)


def draw_encoding(
    model: nn.Module, variables: Variables, batch: Batch, key: Key
) -> Array:
    """z ~ q(z | x) for each example, as `decode` takes it."""
    q: Any = model.apply(variables, batch, method="encode")
    return reparameterized(q, key)


def raw_batches(experiment: Experiment) -> Iterator[tuple[dict[str, Array], int]]:
    """Raw batches of one size, the last filled up, and their numbers of examples."""
    dataset = experiment.dataset
    whole = dataset.spec.sizes["train"]
    rows = permutation(whole, seed=0, epoch=0)[:MOST] if whole > MOST else range(whole)
    rows = np.asarray(rows)
    kept = None if dataset.spec.streams else dataset.split("train")
    for start in range(0, len(rows), BATCH):
        some = np.arange(start, start + BATCH) % len(rows)
        index = rows[some]
        if kept is None:
            arrays = dataset.some("train", index)
        else:
            arrays = {name: array[index] for name, array in kept.items()}
        raw = {name: jnp.asarray(array) for name, array in arrays.items()}
        real = min(BATCH, len(rows) - start)
        yield raw | {"index": jnp.asarray(index, jnp.int32)}, real
