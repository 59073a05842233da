"""Held-out examples and their latents for pictures, or errors without them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax import parallel
from vaejax.apply import query
from vaejax.apply.capabilities import latent_shape, weighs
from vaejax.apply.inputs import batch_of_examples
from vaejax.data.kinds import require_images
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.laboratory.encodings import encode_examples
from vaejax.models import (
    conditional,
    conditions_of,
    draws_latents,
    encodes,
    generates,
    has_baseline,
    infers,
)

MOST = 5000  # examples whose latents are looked at


def posterior_means(
    experiment: Experiment,
    state: TrainState,
    batch: Mapping[str, np.ndarray],
    chunk: int = 500,
) -> Float[np.ndarray, "N latents"]:
    """E[z | x] of each example, a map as a row; `chunk` at a time."""
    means = []
    for i in range(0, len(batch["x"]), chunk):
        part = {name: array[i : i + chunk] for name, array in batch.items()}
        means.append(query.encode(experiment, state, asked(part)).mean)
    return np.concatenate([np.asarray(m).reshape(len(m), -1) for m in means])


def encoding_of(
    experiment: Experiment,
    state: TrainState,
    batch: Mapping[str, np.ndarray],
    chunk: int = 500,
) -> dict[str, np.ndarray]:
    """What `encode_examples` gives of each example, `chunk` at a time; the draws that
    a KL without a closed form is estimated by are the same in every picture.
    """
    apply = parallel.compile_function(encode_examples, experiment.model)
    parts = []
    for i in range(0, len(batch["x"]), chunk):
        part = {n: jnp.asarray(a[i : i + chunk]) for n, a in batch.items()}
        key = jax.random.fold_in(jax.random.key(0), i)
        parts.append(jax.device_get(dict(apply(variables_of(state), part, key))))
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def reconstructed(
    experiment: Experiment, state: TrainState, batch: Mapping[str, np.ndarray]
) -> np.ndarray:
    """E[x | z] at z = E[z | x]."""
    return np.asarray(query.reconstruct(experiment, state, asked(batch)))


def asked(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Examples as queries take them; a context follows from x, so that a model of
    any part is asked for the whole.
    """
    return {name: batch[name] for name in ("x", "y", "mask") if name in batch}


def conditions_at(
    experiment: Experiment, batch: Mapping[str, np.ndarray], rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Conditions of the model for the examples in these rows."""
    here = {name: array[rows] for name, array in asked(batch).items()}
    found = batch_of_examples(experiment, here)
    return {n: np.asarray(found[n]) for n in conditions_of(experiment.model)}


def require_posterior(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model has no encoder."""
    del state  # as in the other requirements
    if not encodes(experiment.model):
        raise InputError(f"{what} needs a model with an encoder")


def require_latents(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where nothing can be generated from latents."""
    del state  # as in the other requirements
    if not generates(experiment.model):
        raise InputError(f"{what} needs a model that generates")


def require_encoded_images(
    experiment: Experiment, state: TrainState, what: str
) -> None:
    """Raises InputError where there are no images, or no encoder."""
    require_pictures(experiment, state, what)
    require_posterior(experiment, state, what)


def require_labels(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the data are no images, or no label is asked for."""
    require_pictures(experiment, state, what)
    if not conditional(experiment.model):
        raise InputError(f"{what} needs a model that is conditioned on labels")


def require_labelled_latents(
    experiment: Experiment, state: TrainState, what: str
) -> None:
    """Raises InputError where no latents can be decoded with one label and another."""
    require_labels(experiment, state, what)
    if not draws_latents(experiment.model):
        raise InputError(f"{what} needs a model with latents")


def require_attributes(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where images have no labels, or latents need not hold them."""
    require_encoded_images(experiment, state, what)
    if experiment.dataset.spec.classes < 2:
        raise InputError(f"{what} needs data with labels")
    if conditional(experiment.model):
        raise InputError(f"{what} needs a model whose labels are not given to it")


def require_context(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model completes nothing."""
    del state  # as in the other requirements
    if not has_baseline(experiment.model):
        raise InputError(f"{what} needs a model that completes images: cvae_sohn")


def require_imputer(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where no missing part of an image can be drawn."""
    require_pictures(experiment, state, what)
    if not infers(experiment.model):
        raise InputError(f"{what} needs a model with an encoder, as miwae")
    if has_baseline(experiment.model):
        raise InputError(f"{what} needs a model of any part: see completions")
    if not weighs(experiment, state):
        raise InputError(f"{what} needs a posterior: {experiment.name} has a point")
    if conditional(experiment.model):
        raise InputError(f"{what} needs a model that is not given the labels")


def require_pictures(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the data are no images."""
    del state  # as in the other requirements
    require_images(experiment.dataset.spec, what)


def require_plane(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model has not exactly 2 latents, or no images."""
    require_pictures(experiment, state, what)
    require_latents(experiment, state, what)
    latents = latent_shape(experiment, state)
    if latents != (2,):
        raise InputError(
            f"{what} needs a model with 2 latents, this one has "
            f"{' x '.join(map(str, latents))}: "
            "traversal draws any number"
        )
