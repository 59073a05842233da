"""What a trained model is asked: pure functions of (experiment, state, ...).

`x` is in the model's units: images `[N, H, W, C]` in [0, 1], tables `[N, D]`
standardized, as `Experiment.preprocess` makes them; `experiment.preprocess.restore`
turns results into the data's own units.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax import metrics, parallel
from vaejax.errors import require
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.types import Array, ArrayLike, Batch, Distribution, Key


def encode(experiment: Experiment, state: TrainState, x: ArrayLike) -> Distribution:
    """q(z | x): its `mean` and `sample(key)` are `[N, latents]`."""
    apply = parallel.compile_verb(experiment.model, "posterior")
    return apply(variables_of(state), {"x": jnp.asarray(x)})


def decode(experiment: Experiment, state: TrainState, z: ArrayLike) -> Array:
    """E[x | z] for `z` `[N, latents]`: `[N, *shape]` in the model's units."""
    return likelihood(experiment, state, z).mean[0]


def likelihood(experiment: Experiment, state: TrainState, z: ArrayLike) -> Distribution:
    """p(x | z) for `z` `[N, latents]`; its batch shape is `[1, N, *shape]`."""
    apply = parallel.compile_verb(experiment.model, "likelihood")
    z = jnp.asarray(z)
    batch = shape_of_batch(experiment, len(z))
    return apply(variables_of(state), z[None], batch)


def reconstruct(experiment: Experiment, state: TrainState, x: ArrayLike) -> Array:
    """E[x | z] at z = E[z | x]: `[N, *shape]` in the model's units."""
    return decode(experiment, state, encode(experiment, state, x).mean)


def sample(
    experiment: Experiment,
    state: TrainState,
    key: Key,
    num: int,
    *,
    noise: bool = False,
) -> Array:
    """`num` examples from the model: z from the prior, then E[x | z].

    Args:
      key: a `jax.random.key`.
      num: how many.
      noise: draw x from p(x | z) instead of taking its mean.

    Returns:
      `[num, *shape]` in the model's units.

    Raises:
      InputError: num < 1.
    """
    require(num >= 1, "num", num, "at least 1")
    latent_key, noise_key = jax.random.split(key)
    apply = parallel.compile_verb(experiment.model, "prior")
    z = apply(variables_of(state), shape_of_batch(experiment, num)).sample(latent_key)
    px = likelihood(experiment, state, z)
    return (px.sample(noise_key) if noise else px.mean)[0]


def log_likelihood(
    experiment: Experiment,
    state: TrainState,
    x: ArrayLike,
    key: Key,
    samples: int = 1000,
) -> Float[Array, " N"]:
    """log p(x) of each example by `samples` importance samples, nats.

    A lower bound in expectation [Burda et al. 2016]; what noise preprocessing adds
    (binarization) is part of `x` here.
    """
    require(samples >= 1, "samples", samples, "at least 1")
    apply = parallel.compile_function(
        metrics.log_likelihood, experiment.model, samples=samples
    )
    return apply(variables_of(state), {"x": jnp.asarray(x)}, key)[0]


def shape_of_batch(experiment: Experiment, num: int) -> Batch:
    """A batch of zeros, for verbs that read its shape alone."""
    spec = experiment.dataset.spec
    return {"x": jnp.zeros((num, *spec.shape))}
