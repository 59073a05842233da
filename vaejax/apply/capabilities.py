"""Capabilities of a trained model: whether it encodes, generates and has densities."""

import jax

from vaejax import parallel
from vaejax.apply.inputs import blank_batch
from vaejax.distributions import has_density
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import encodes, generates, infers


def require_encoder(experiment: Experiment, hint: str = "") -> None:
    """InputError where the model has no encoder."""
    if not encodes(experiment.model):
        raise InputError(f"{experiment.name or 'the model'} has no encoder{hint}")


def require_generator(experiment: Experiment) -> None:
    """InputError where the model generates nothing."""
    if not generates(experiment.model):
        raise InputError(f"{experiment.name or 'the model'} generates nothing")


def latent_shape(experiment: Experiment, state: TrainState) -> tuple[int, ...]:
    """The shape of the latents of one example that `decode` takes."""
    draw = parallel.compile_verb(experiment.model, "draw_prior")
    batch, keys = blank_shapes(experiment)
    return jax.eval_shape(draw, variables_of(state), batch, keys).shape[2:]


def weighs(experiment: Experiment, state: TrainState) -> bool:
    """Whether the model has densities of x and of z given x, of which log p(x) is made:
    not where there is no encoder, and not where either is a point mass.
    """
    if not infers(experiment.model):
        return False
    infer = parallel.compile_verb(experiment.model, "infer")
    i = jax.eval_shape(infer, variables_of(state), *blank_shapes(experiment))
    latent = [has_density(term.q) for term in i.latents.values()]
    return all(latent) and has_density(i.px)


def block_names(experiment: Experiment, state: TrainState) -> list[str]:
    """The names of the model's blocks of latents, from the data upwards; none of a
    model without an encoder.
    """
    if not infers(experiment.model):
        return []
    infer = parallel.compile_verb(experiment.model, "infer")
    i = jax.eval_shape(infer, variables_of(state), *blank_shapes(experiment))
    return list(i.latents)


def blank_shapes(experiment: Experiment) -> tuple:
    """The shapes of a batch and of the key of one draw, for `jax.eval_shape`."""
    return jax.eval_shape(lambda: (blank_batch(experiment), jax.random.key(0)[None]))
