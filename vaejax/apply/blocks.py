"""The part of each block of latents in a trained hierarchy."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax import parallel
from vaejax.apply.capabilities import block_names, require_encoder
from vaejax.apply.inputs import NOTHING, Examples, Given, batch_of_examples
from vaejax.data.entries import checked_key
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.inference.sources import TopMeans
from vaejax.types import Array, Batch, Key, Variables


def reconstruct_from_top(
    experiment: Experiment,
    state: TrainState,
    x: Examples,
    blocks: Sequence[int],
    given: Given = NOTHING,
) -> Float[np.ndarray, "counts N *shape"]:
    """E[x | z] where only the top blocks of latents are those of each example.

    These have the means of their posteriors, the others the means of the prior, given
    the blocks above. With no block at all it is what the model thinks is typical.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      blocks: how many blocks, from the top, are inferred; a result for each number.
      given: what a conditional model is conditioned on.

    Returns:
      `[len(blocks), N, *shape]` in the model's units.

    Raises:
      InputError: the model has no encoder or fewer blocks, or as of `vaejax.encode`.
    """
    require_encoder(experiment)
    most = len(block_names(experiment, state))
    if not blocks or min(blocks) < 0 or max(blocks) > most:
        raise InputError(
            f"blocks {list(blocks)}: give numbers from 0 to {most}, as many as the "
            "model has"
        )
    batch = batch_of_examples(experiment, x, given)
    apply = parallel.compile_function(
        means_from_top, experiment.model, blocks=tuple(blocks)
    )
    return np.asarray(apply(variables_of(state), batch))


def means_from_top(
    model: nn.Module, variables: Variables, batch: Batch, blocks: tuple[int, ...]
) -> Array:
    """E[x | z] with each number of inferred blocks, `[len(blocks), N, *shape]`."""
    means = [
        model.apply(variables, batch, TopMeans(number), method="from_top")
        for number in blocks
    ]
    return jnp.stack([px.mean[0] for px in means])  # pyright: ignore


def kl_of_blocks(
    experiment: Experiment,
    state: TrainState,
    x: Examples,
    key: Key,
    given: Given = NOTHING,
) -> dict[str, Float[np.ndarray, " N"]]:
    """The part of each block in KL(q(z | x) || p(z)), nats, at one draw an example.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns.
      key: a `jax.random.key`.
      given: what a conditional model is conditioned on.

    Returns:
      `[N]` for each block by name, from the data upwards.

    Raises:
      InputError: the model has no encoder, or as of `vaejax.encode`.
    """
    require_encoder(experiment)
    batch = batch_of_examples(experiment, x, given)
    infer = parallel.compile_verb(experiment.model, "infer")
    i = infer(variables_of(state), batch, checked_key(key)[None])
    return {name: np.asarray(term.kl.sum(-1)[0]) for name, term in i.latents.items()}
