"""Capabilities of a model: its verbs, its latents, whether it has densities."""

import jax
import jax.numpy as jnp

from vaejax import parallel
from vaejax.apply.inputs import blank_batch
from vaejax.distributions import has_density
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.types import LatentModel


def require_verb(experiment: Experiment, verb: str, lacks: str) -> None:
    """InputError where the model has no such verb."""
    if not hasattr(experiment.model, verb):
        raise InputError(f"{experiment.name or 'the model'} {lacks}")


def count_latents(experiment: Experiment, state: TrainState) -> int:
    """The number of latents of one example."""
    prior = parallel.compile_verb(experiment.model, "prior")
    batch = jax.eval_shape(lambda: blank_batch(experiment))
    found = jax.eval_shape(prior, variables_of(state), batch)
    return found.batch_shape[-1]


def weighs(experiment: Experiment, state: TrainState) -> bool:
    """Whether the model has densities of x and of z given x, of which log p(x) is made:
    not where there is no encoder, and not where either is a point mass.
    """
    model = experiment.model
    if not isinstance(model, LatentModel):
        return False
    variables = variables_of(state)
    batch = jax.eval_shape(lambda: blank_batch(experiment))
    q = jax.eval_shape(parallel.compile_verb(model, "posterior"), variables, batch)
    z = jax.ShapeDtypeStruct((1, *q.batch_shape), jnp.float32)
    likelihood = parallel.compile_verb(model, "likelihood")
    px = jax.eval_shape(likelihood, variables, z, batch)
    return has_density(q) and has_density(px)
