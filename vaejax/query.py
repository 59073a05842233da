"""What a trained model is asked: pure functions of (experiment, state, ...).

`x` is in the model's units: images `[N, H, W, C]` in [0, 1], tables `[N, D]`
standardized, as `Experiment.preprocess` makes them; `experiment.preprocess.restore`
turns results into the data's own units. `given` is what a conditional model is
conditioned on: `{"y": labels [N]}` (or soft labels `[N, classes]`), or
`{"context": [N, H, W, C], "seen": [N, H, W, C]}`; models without conditions ignore it.
Labels are texts, the names of classes, or integers, their indices 0 .. C - 1, as
`dataset.split` gives them; `dataset.spec.label_index` makes indices of the data's own
labels.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jaxtyping import Float

from vaejax import metrics, parallel
from vaejax.data.classes import plain
from vaejax.data.dataset import Spec
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.limits import check_count
from vaejax.memory import check_fits
from vaejax.types import Array, ArrayLike, Distribution, Key, Size

Given = Mapping[str, ArrayLike | Sequence[str]]
NOTHING: Given = MappingProxyType({})


def encode(
    experiment: Experiment, state: TrainState, x: ArrayLike, given: Given = NOTHING
) -> Distribution:
    """q(z | x), the approximate posterior of each example.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      x: `[N, *shape]` in the model's units.
      given: what a conditional model is conditioned on.

    Returns:
      A distribution: its `mean` and `sample(key)` are `[N, latents]`.

    Raises:
      InputError: the model is conditioned on labels, and none are given.
    """
    apply = parallel.compile_verb(experiment.model, "posterior")
    x = jnp.asarray(x)
    return apply(
        variables_of(state), batch_of(experiment, x.shape[0], given) | {"x": x}
    )


def decode(
    experiment: Experiment, state: TrainState, z: ArrayLike, given: Given = NOTHING
) -> Array:
    """E[x | z], what the model makes of latents.

    Args:
      experiment: what was trained.
      state: its parameters.
      z: `[N, latents]`.
      given: what a conditional model is conditioned on.

    Returns:
      `[N, *shape]` in the model's units.

    Raises:
      InputError: the model is conditioned on labels, and none are given.
    """
    return likelihood(experiment, state, z, given).mean[0]


def likelihood(
    experiment: Experiment, state: TrainState, z: ArrayLike, given: Given = NOTHING
) -> Distribution:
    """p(x | z) for `z` `[N, latents]`; its batch shape is `[1, N, *shape]`."""
    apply = parallel.compile_verb(experiment.model, "likelihood")
    z = jnp.asarray(z)
    return apply(variables_of(state), z[None], batch_of(experiment, z.shape[0], given))


def attribute(
    experiment: Experiment,
    state: TrainState,
    x: ArrayLike,
    has: ArrayLike,
    given: Given = NOTHING,
) -> Array:
    """The direction of an attribute: mean latent of those with it minus without.

    Added to a latent, it gives the attribute to what is decoded [Larsen et al. 2016,
    sec. 4.2].

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units.
      has: bool `[N]`.
      given: what a conditional model is conditioned on.

    Returns:
      `[latents]`.

    Raises:
      InputError: all have the attribute, or none.
    """
    return direction(encode(experiment, state, x, given).mean, has)


def direction(z: ArrayLike, has: ArrayLike) -> Array:
    """Mean of `z` `[N, latents]` where `has` `[N]`, minus its mean elsewhere."""
    with_it = jnp.asarray(has, bool)
    count = int(with_it.sum())
    if not 0 < count < len(with_it):
        raise InputError(f"an attribute of {count} in {len(with_it)} has no direction")
    z = jnp.asarray(z)
    return z[with_it].mean(0) - z[~with_it].mean(0)


def reconstruct(
    experiment: Experiment, state: TrainState, x: ArrayLike, given: Given = NOTHING
) -> Array:
    """E[x | z] at z = E[z | x]: examples, encoded and decoded.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units.
      given: what a conditional model is conditioned on.

    Returns:
      `[N, *shape]` in the model's units.

    Raises:
      InputError: the model is conditioned on labels, and none are given.
    """
    z = encode(experiment, state, x, given).mean
    return decode(experiment, state, z, given)


def sample(
    experiment: Experiment,
    state: TrainState,
    key: Key,
    num: Size,
    *,
    noise: bool = False,
    given: Given = NOTHING,
) -> Array:
    """`num` examples from the model: z from the prior, then E[x | z].

    Args:
      experiment: what was trained.
      state: its parameters.
      key: a `jax.random.key`.
      num: how many.
      noise: draw x from p(x | z) instead of taking its mean.
      given: what is conditioned on; without labels the classes take turns.

    Returns:
      `[num, *shape]` in the model's units.

    Raises:
      InputError: num < 1.
    """
    if not is_symbolic_dim(num):  # an export leaves the number open
        check_count("num", num, 1)
        needed = num * math.prod(experiment.dataset.spec.shape) * 4
        check_fits(needed, f"{num:,} samples", "draw fewer at a time")
    latent_key, noise_key = jax.random.split(key)
    given = {**in_turn(experiment, num), **given}
    z = draw_latents(experiment, state, latent_key, num, given)
    px = likelihood(experiment, state, z, given)
    return (px.sample(noise_key) if noise else px.mean)[0]


def draw_latents(
    experiment: Experiment, state: TrainState, key: Key, num: Size, given: Given
) -> Array:
    """z from the prior, `[num, latents]`."""
    apply = parallel.compile_verb(experiment.model, "prior")
    return apply(variables_of(state), batch_of(experiment, num, given)).sample(key)


def log_likelihood(
    experiment: Experiment,
    state: TrainState,
    x: ArrayLike,
    key: Key,
    samples: int = 1000,
    given: Given = NOTHING,
) -> Float[Array, " N"]:
    """log p(x) of each example by importance sampling, nats.

    log 1/S sum_s p(x, z_s) / q(z_s | x), z_s ~ q(z | x): a lower bound in expectation
    [Burda et al. 2016, eq. 8]. What noise preprocessing adds (binarization) is part of
    `x` here.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units.
      key: a `jax.random.key`.
      samples: importance samples S of each example.
      given: what a conditional model is conditioned on.

    Returns:
      `[N]`, nats.

    Raises:
      InputError: samples < 1, or labels are needed and none are given.
    """
    check_count("samples", samples, 1)
    apply = parallel.compile_function(
        metrics.log_likelihood, experiment.model, samples=samples
    )
    x = jnp.asarray(x)
    batch = batch_of(experiment, x.shape[0], given) | {"x": x}
    return apply(variables_of(state), batch, key)[0]


def batch_of(
    experiment: Experiment, num: Size, given: Given = NOTHING
) -> dict[str, Array]:
    """A batch whose `x` is zeros, for verbs that read its shape and what is given.

    A context that is not given is all zeros; labels have no such default.
    """
    spec = experiment.dataset.spec
    batch = dict(experiment.preprocess.apply(blank(spec, num), jax.random.key(0)))
    batch.pop("y", None)
    batch |= {"x": jnp.zeros((num, *spec.shape))}
    return batch | {n: jnp.asarray(indexed(v, spec)) for n, v in given.items()}


def indexed(value: ArrayLike | Sequence[str], spec: Spec) -> ArrayLike:
    """What is given, texts being names of classes, by their indices; InputError where
    training saw no such class.
    """
    if isinstance(value, jax.Array):
        return value
    array = plain(value)
    return spec.label_index(array) if array.dtype.kind == "U" else array


def in_turn(experiment: Experiment, num: Size) -> Given:
    """Labels `[num]` that go through the classes, where the data has classes."""
    classes = experiment.dataset.spec.classes
    return {"y": jnp.arange(num) % classes} if classes else {}
