"""What pictures ask of a run: held-out examples, their latents, and what it lacks."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax import parallel, query
from vaejax.data.feed import permutation
from vaejax.errors import InputError
from vaejax.evaluation import evaluation_key
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.step import DATA

MOST = 5000  # examples whose latents are looked at


def held_out(experiment: Experiment, num: int) -> dict[str, np.ndarray]:
    """At most `num` examples of the test split, as the model sees them.

    They are the first of a fixed permutation, because splits may be ordered by class;
    the noise of preprocessing is drawn with the key of the evaluations' first batch.
    """
    arrays = experiment.dataset.split("test")
    index = permutation(len(arrays["x"]), seed=0, epoch=0)[:num]
    root = evaluation_key(experiment.training.seed)
    key = jax.random.fold_in(jax.random.fold_in(root, 0), DATA)
    raw = {name: jnp.asarray(array[index]) for name, array in arrays.items()}
    batch = experiment.preprocess.apply(raw | {"index": jnp.asarray(index)}, key)
    return {name: np.asarray(array) for name, array in batch.items()}


def posterior_means(
    experiment: Experiment,
    state: TrainState,
    batch: Mapping[str, np.ndarray],
    chunk: int = 500,
) -> Float[np.ndarray, "N latents"]:
    """E[z | x] of each example, `chunk` at a time."""
    means = []
    for i in range(0, len(batch["x"]), chunk):
        part = {name: array[i : i + chunk] for name, array in batch.items()}
        means.append(query.encode(experiment, state, part["x"], part).mean)
    return np.concatenate([np.asarray(mean) for mean in means])


def reconstructed(
    experiment: Experiment, state: TrainState, batch: Mapping[str, np.ndarray]
) -> np.ndarray:
    """E[x | z] at z = E[z | x]."""
    return np.asarray(query.reconstruct(experiment, state, batch["x"], batch))


def count_latents(experiment: Experiment, state: TrainState) -> int:
    """The number of latents of one example."""
    prior = parallel.compile_verb(experiment.model, "prior")
    blank = query.batch_of(experiment, 1)
    return prior(variables_of(state), blank).batch_shape[-1]


def require_posterior(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model has no encoder."""
    del state  # as in the other requirements
    if not hasattr(experiment.model, "posterior"):
        raise InputError(f"{what} needs a model with an encoder")


def require_latents(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where nothing can be generated from latents."""
    del state  # as in the other requirements
    if not hasattr(experiment.model, "likelihood"):
        raise InputError(f"{what} needs a model that generates")


def require_encoded_images(
    experiment: Experiment, state: TrainState, what: str
) -> None:
    """Raises InputError where there are no images, or no encoder."""
    require_images(experiment, state, what)
    require_posterior(experiment, state, what)


def require_images(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the data are no images."""
    del state  # as in the other requirements
    spec = experiment.dataset.spec
    if spec.kind != "image":
        raise InputError(f"{what} needs images: {spec.name} is a {spec.kind}")


def require_plane(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model has not exactly 2 latents, or no images."""
    require_images(experiment, state, what)
    latents = count_latents(experiment, state)
    if latents != 2:
        raise InputError(
            f"{what} needs a model with 2 latents, this one has {latents}: "
            "traversal draws any number"
        )
