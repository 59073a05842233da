"""Latents of a trained model as data: of any rows of its splits, on all devices.

An example's latents depend on the model and its place in its split alone: noise of
preprocessing, as of binarization, has a key for each example, so that parts of a split
that are encoded apart are those of the whole.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from vaejax import parallel
from vaejax.apply.capabilities import blank_shapes, latent_shape, require_encoder
from vaejax.data.dataset import Arrays
from vaejax.data.preprocess import Preprocess
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import conditions_of, has_codes
from vaejax.nn.layers import PRECISIONS, PrecisionName, bodies_in
from vaejax.purposes import OfRun, OfStep
from vaejax.types import Array, Batch, Key, Variables

SPLITS = ("train", "validation", "test")
NUMBERS = 2**22
"""Numbers of x in a batch, about: small images are encoded by hundreds."""
LEAST, MOST = 8, 512
"""Examples of a batch; a power of two, which divides over most numbers of devices."""
KINDS = {1: "table", 3: "latent map"}
"""Kinds of data of latents that are no codes, by the number of their axes."""


class EncodedLatents(NamedTuple):
    """The latents of a model as examples of data."""

    what: str
    """`codes`, `means` of q(z | x), or `draws` of it, made at each access."""
    kind: str
    """A name in `vaejax.data.kinds.KINDS`."""
    shape: tuple[int, ...]
    """Shape of one example."""
    levels: int
    """Number of codes; 0 where they are none."""

    @property
    def dtype(self) -> type[np.generic]:
        """The type that holds an entry."""
        return np.int32 if self.levels else np.float32


def latents_of(experiment: Experiment, state: TrainState) -> EncodedLatents:
    """What the latents of a model are as data.

    Raises:
      InputError: there is no encoder, it needs more than x and labels, or latents are
        neither vectors nor maps.
    """
    require_encoder(experiment, ": latents are of a model that encodes")
    if unknown := [n for n in conditions_of(experiment.model) if n != "y"]:
        raise InputError(
            f"{experiment.name} draws its latents given {', '.join(unknown)}, which no "
            "second stage knows: train one without"
        )
    batch, _ = blank_shapes(experiment)
    if has_codes(experiment.model):
        prior = parallel.compile_verb(experiment.model, "prior")
        p: Any = jax.eval_shape(prior, variables_of(state), batch)
        return EncodedLatents("codes", "code map", tuple(p.codes_shape[1:]), p.size)
    means = parallel.compile_function(posterior_mean, experiment.model)
    shape = jax.eval_shape(means, variables_of(state), batch).shape[1:]
    if shape != latent_shape(experiment, state) or len(shape) not in KINDS:
        raise InputError(
            f"{experiment.name} encodes as {list(shape)} and decodes from "
            f"{list(latent_shape(experiment, state))}: latents are one vector or map "
            "of an example"
        )
    return EncodedLatents("means", KINDS[len(shape)], shape, 0)


def posterior_mean(model: nn.Module, variables: Variables, batch: Batch) -> Array:
    """E[z | x] of each example, as `decode` takes it."""
    q: Any = model.apply(variables, batch, method="encode")
    return q.mean


def encoded_batch(
    model: nn.Module,
    variables: Variables,
    raw: Batch,
    key: Key,
    preprocess: Preprocess,
    what: str,
    precision: PrecisionName,
) -> dict[str, Array]:
    """`x`, codes or means, of the examples of a raw batch; the noise of each has its
    key. For draws also `noise`, the standard deviations of q(z | x). Hidden layers
    compute in `precision`.
    """

    def one(example: Batch, key: Key) -> Batch:
        batch = preprocess.apply(jax.tree.map(lambda a: a[None], example), key)
        return jax.tree.map(lambda a: a[0], dict(batch))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, raw["index"])
    batch = jax.vmap(one)(dict(raw), keys)
    with bodies_in(PRECISIONS[precision]):
        q: Any = model.apply(variables, batch, method="encode")
    if what == "codes":
        return {"x": q.codes}
    return {"x": q.mean} | ({"noise": q.scale} if what == "draws" else {})


def compile_encoding(
    experiment: Experiment, latents: EncodedLatents, precision: PrecisionName
) -> Callable:
    """`encoded_batch` of a model, compiled: a function of variables, batch and key."""
    return parallel.compile_function(
        encoded_batch,
        experiment.model,
        preprocess=experiment.preprocess,
        what=latents.what,
        precision=precision,
    )


def as_draws(
    experiment: Experiment, state: TrainState, latents: EncodedLatents
) -> EncodedLatents:
    """The latents as draws of q(z | x); InputError where that has no such noise."""
    encode = parallel.compile_verb(experiment.model, "encode")
    batch, _ = blank_shapes(experiment)
    q = jax.eval_shape(encode, variables_of(state), batch)
    if not isinstance(q, dist.Normal):
        raise InputError(
            f"draws: is of models with a diagonal Gaussian posterior, which "
            f"{experiment.name} has not: use latents:"
        )
    return latents._replace(what="draws")


def batch_rows(shape: tuple[int, ...]) -> int:
    """Examples of a batch, by the shape of one."""
    room = max(NUMBERS // math.prod(shape), 1)
    return min(MOST, max(LEAST, 1 << (room.bit_length() - 1)))


def encode_rows(
    experiment: Experiment,
    state: TrainState,
    latents: EncodedLatents,
    split: str,
    rows: range,
    batch_size: int = 0,
    precision: PrecisionName = "f32",
) -> Iterator[Arrays]:
    """Latents `x` `[n, *shape]` and labels `y` of rows of a split, batch by batch; of
    draws also `noise`, like x.

    Args:
      experiment: the first stage.
      state: its parameters.
      latents: as `latents_of` describes them.
      split: of the data that it was trained on.
      rows: one after the other.
      batch_size: examples at a time; 0: by their size.
      precision: that of hidden layers.

    Raises:
      InputError: an encoding is no number.
    """
    dataset = experiment.dataset
    size = batch_size or batch_rows(dataset.spec.shape)
    mesh = parallel.local_mesh(size)
    encode = compile_encoding(experiment, latents, precision)
    variables = parallel.place(variables_of(state), mesh)
    key = jax.random.fold_in(jax.random.key(0), OfRun.ENCODING)
    key = jax.random.fold_in(key, SPLITS.index(split))
    key = jax.random.fold_in(key, OfStep.DATA)
    kept = None if dataset.spec.streams else dataset.split(split)
    for start in range(rows.start, rows.stop, size):
        wanted = np.arange(start, min(start + size, rows.stop))
        index = np.resize(wanted, size)  # the last batch is filled up
        some = {n: a[index] for n, a in kept.items()} if kept else None
        arrays = dataset.some(split, index) if some is None else some
        raw = {**arrays, "index": index.astype(np.int32)}
        raw = jax.tree.map(jnp.asarray, parallel.put(raw, parallel.rows(mesh)))
        found = {
            name: np.asarray(array)[: len(wanted)].astype(latents.dtype)
            for name, array in encode(variables, raw, key).items()
        }
        if not all(np.isfinite(array).all() for array in found.values()):
            raise InputError(
                f"{experiment.name} encodes examples as what is no number: its model "
                "diverged"
            )
        yield found | ({"y": arrays["y"][: len(wanted)]} if "y" in arrays else {})
