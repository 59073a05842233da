"""Queries to a trained model: pure functions of (experiment, state, ...).

`x` is in the model's units: images `[N, H, W, C]` in [0, 1], tables `[N, D]`
standardized; NaN is a hole. `experiment.inputs(rows)` puts rows in the data's own units
into these and gives a mapping that stands for `x`, its mask and its labels;
`experiment.preprocess.restore` turns results back. `given` is what a conditional model
is conditioned on: `{"y": labels [N]}` (or soft labels `[N, classes]`), or
`{"context": [N, H, W, C], "seen": [N, H, W, C]}`; models without conditions ignore it.
Labels are texts, the names of classes, or integers, their indices 0 .. C - 1, as
`dataset.split` gives them; `dataset.spec.label_index` makes indices of the data's own
labels. A context that is not given is x in the region that a model is trained with, or
nothing where it completes any part; where neither can be, an InputError asks for it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim
from jaxtyping import Float

from vaejax import metrics, parallel
from vaejax.apply.capabilities import (
    latent_shape,
    require_encoder,
    require_generator,
)
from vaejax.apply.inputs import (
    NOTHING,
    Examples,
    Given,
    batch_of_examples,
    batch_to_generate,
    given_or_in_turn,
)
from vaejax.data.checks import array_of
from vaejax.data.entries import checked_key, checked_latents
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import infers
from vaejax.runtime.limits import check_count
from vaejax.runtime.memory import check_fits
from vaejax.samplers.record import Sampler, check_sampler_of
from vaejax.types import Array, ArrayLike, Batch, Distribution, Key, Size


def encode(
    experiment: Experiment, state: TrainState, x: Examples, given: Given = NOTHING
) -> Distribution:
    """q(z | x), the approximate posterior of each example.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      given: what a conditional model is conditioned on.

    Returns:
      A distribution: its `mean` and `sample(key)` are `[N, latents]`.

    Raises:
      InputError: x is not in the model's units, a condition is missing, or there is
        no encoder.
    """
    require_encoder(experiment)
    batch = batch_of_examples(experiment, x, given)
    return posterior(experiment, state, batch)


def decode(
    experiment: Experiment, state: TrainState, z: ArrayLike, given: Given = NOTHING
) -> Array:
    """E[x | z], what the model makes of latents.

    Args:
      experiment: what was trained.
      state: its parameters.
      z: `[N, latents]`, or maps `[N, height, width, channels]` of a model of those.
      given: what a conditional model is conditioned on.

    Returns:
      `[N, *shape]` in the model's units.

    Raises:
      InputError: z has another shape, a condition is missing, or nothing is generated.
    """
    return likelihood(experiment, state, z, given).mean[0]


def likelihood(
    experiment: Experiment, state: TrainState, z: ArrayLike, given: Given = NOTHING
) -> Distribution:
    """p(x | z) for `z` `[N, *latents]`; its batch shape is `[1, N, *shape]`."""
    require_generator(experiment)
    z = checked_latents(z, latent_shape(experiment, state))
    batch = batch_to_generate(experiment, z.shape[0], given)
    return generated_likelihood(experiment, state, z, batch)


def attribute(
    experiment: Experiment,
    state: TrainState,
    x: Examples,
    has: ArrayLike,
    given: Given = NOTHING,
) -> Array:
    """The direction of an attribute: mean latent of those with it minus without.

    Added to a latent, it gives the attribute to what is decoded [Larsen et al. 2016,
    sec. 4.2].

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      has: bool `[N]`.
      given: what a conditional model is conditioned on.

    Returns:
      `[latents]`.

    Raises:
      InputError: all have the attribute, or none; or as of `encode`.
    """
    return direction(encode(experiment, state, x, given).mean, has)


def direction(z: ArrayLike, has: ArrayLike) -> Array:
    """Mean of `z` `[N, latents]` where `has` `[N]`, minus its mean elsewhere."""
    z, values = jnp.asarray(z), array_of(has, "has")
    if values.shape != z.shape[:1] or not np.isin(values, (0, 1)).all():
        raise InputError(
            f"has has shape {values.shape}: give True or False for each of the "
            f"{len(z)} examples"
        )
    with_it = values.astype(bool)
    count = int(with_it.sum())
    if not 0 < count < len(with_it):
        raise InputError(f"an attribute of {count} in {len(with_it)} has no direction")
    return z[with_it].mean(0) - z[~with_it].mean(0)


def reconstruct(
    experiment: Experiment, state: TrainState, x: Examples, given: Given = NOTHING
) -> Array:
    """E[x | z] at z = E[z | x]: examples, encoded and decoded.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      given: what a conditional model is conditioned on.

    Returns:
      `[N, *shape]` in the model's units.

    Raises:
      InputError: as of `encode` and `decode`.
    """
    require_encoder(experiment)
    require_generator(experiment)
    batch = batch_of_examples(experiment, x, given)
    z = posterior(experiment, state, batch).mean
    return generated_likelihood(experiment, state, z, batch).mean[0]


def sample(
    experiment: Experiment,
    state: TrainState,
    key: Key,
    num: Size,
    *,
    noise: bool = False,
    given: Given = NOTHING,
    sampler: Sampler | None = None,
    temperature: float | None = None,
) -> Array:
    """`num` examples from the model: z from the prior, then E[x | z].

    Args:
      experiment: what was trained.
      state: its parameters.
      key: a `jax.random.key`.
      num: how many.
      noise: draw x from p(x | z) instead of taking its mean.
      given: what is conditioned on; without labels the classes take turns.
      sampler: the density that z is drawn from instead of the prior, as `fit_sampler`
        returns it for this state.
      temperature: multiplies the standard deviations of p(z), in each block of latents,
        or of the sampler: below 1 samples are more typical, and less diverse. None
        leaves them alone.

    Returns:
      `[num, *shape]` in the model's units.

    Raises:
      InputError: num < 1, a condition is missing that is no label, the sampler was
        fitted to another state, or a temperature is below 0 or of a prior that is not
        Gaussian.
    """
    require_generator(experiment)
    if not is_symbolic_dim(num):  # an export leaves the number open
        check_count("num", num, 1)
        needed = num * math.prod(experiment.dataset.spec.shape) * 4
        check_fits(needed, f"{num:,} samples", "draw fewer at a time")
    key = checked_key(key)
    latent_key, noise_key = jax.random.split(key)
    given = given_or_in_turn(experiment, num, given)
    batch = batch_to_generate(experiment, num, given)
    heat = None if temperature is None else checked_temperature(temperature)
    if sampler is None:
        generate = parallel.compile_verb(experiment.model, "generate")
        px = generate(variables_of(state), batch, latent_key[None], heat)
    else:
        check_sampler_of(sampler, state)
        z = sampler.draw(latent_key, int(num), batch.get("y"), heat)
        px = generated_likelihood(experiment, state, z, batch)
    return (px.sample(noise_key) if noise else px.mean)[0]


def checked_temperature(temperature: float) -> Array:
    """The temperature; InputError where it is none."""
    if not 0 <= temperature < math.inf:
        raise InputError(f"temperature {temperature}: choose a number of at least 0")
    return jnp.float32(temperature)


def draw_latents(
    experiment: Experiment, state: TrainState, key: Key, num: Size, given: Given
) -> Array:
    """z from the prior, `[num, latents]`."""
    apply = parallel.compile_verb(experiment.model, "draw_prior")
    given = given_or_in_turn(experiment, num, given)
    batch = batch_to_generate(experiment, num, given)
    return apply(variables_of(state), batch, checked_key(key)[None])[0]


def log_likelihood(
    experiment: Experiment,
    state: TrainState,
    x: Examples,
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
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      key: a `jax.random.key`.
      samples: importance samples S of each example.
      given: what a conditional model is conditioned on.

    Returns:
      `[N]`, nats.

    Raises:
      InputError: samples < 1, x is not in the model's units, a condition is missing, or
        the model has no density: of x, or of z given x.
    """
    check_count("samples", samples, 1)
    if not infers(experiment.model):
        raise InputError(f"{experiment.name} has no likelihood")
    apply = parallel.compile_function(
        metrics.importance_log_likelihood, experiment.model, samples=samples
    )
    batch = batch_of_examples(experiment, x, given)
    return apply(variables_of(state), batch, checked_key(key))[0]


def posterior(experiment: Experiment, state: TrainState, batch: Batch) -> Distribution:
    """q(z | x) of a batch."""
    apply = parallel.compile_verb(experiment.model, "encode")
    return apply(variables_of(state), batch)


def generated_likelihood(
    experiment: Experiment, state: TrainState, z: Array, batch: Batch
) -> Distribution:
    """p(x | z) for `z` `[N, latents]` and a batch with the model's conditions."""
    apply = parallel.compile_verb(experiment.model, "decode")
    return apply(variables_of(state), z[None], batch)
