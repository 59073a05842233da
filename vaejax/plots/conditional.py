"""Pictures of what is given: classes, mixtures of classes, attributes, seen parts."""

from collections.abc import Sequence
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.apply import query
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import draws_latents
from vaejax.plots.examples import (
    MOST,
    conditions_at,
    posterior_means,
    require_attributes,
    require_context,
    require_labelled_latents,
    require_labels,
)
from vaejax.plots.frame import Picture, heading
from vaejax.plots.grid import columns_that_fit, enlarge, grid_figure
from vaejax.plots.images import decode_grid
from vaejax.training.evaluator import conditions_to_generate, held_out_examples
from vaejax.types import Array, Batch, Variables

ROWS = 8


def classes(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """E[x | z, y]: a column for each class, a row for each z from the prior.

    Of a model without latents, samples of each class.

    Raises:
      InputError: the data are no images, or the model is not conditioned on labels.
    """
    require_labels(experiment, state, "classes")
    columns = min(experiment.dataset.spec.classes, images_per_row(experiment, 20))
    given, title = {"y": np.tile(np.arange(columns), ROWS)}, "samples of each class"
    if draws_latents(experiment.model):
        z = prior_draws(experiment, state, ROWS, seed).repeat(columns, 0)
        x = decode_grid(experiment, state, z, given)
        title = "E[x | z, y], a z from the prior in each row"
    else:
        key, count = jax.random.key(seed), ROWS * columns
        x = np.asarray(query.sample(experiment, state, key, count, given=given))
    return grid_figure(
        enlarge(x),
        heading(experiment, title),
        columns,
        column_labels=abbreviated(experiment.dataset.spec.class_names[:columns]),
    )


def labels(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """E[x | z, y] for y between two classes, at the same z from the prior in a row.

    Raises:
      InputError: the data are no images, or the model is not conditioned on labels.
    """
    require_labelled_latents(experiment, state, "labels")
    count = experiment.dataset.spec.classes
    pairs = list(pairwise([*range(count), 0]))[:ROWS]
    names = abbreviated(experiment.dataset.spec.class_names)
    steps = images_per_row(experiment, 11)
    share = np.linspace(0, 1, steps)[None, :, None]
    ends = np.eye(count, dtype=np.float32)[np.array(pairs)]
    y = (1 - share) * ends[:, :1] + share * ends[:, 1:]
    z = prior_draws(experiment, state, len(pairs), seed).repeat(steps, 0)
    x = decode_grid(
        experiment, state, z, {"y": y.reshape(-1, count).astype(np.float32)}
    )
    return grid_figure(
        enlarge(x),
        heading(experiment, "E[x | z, y] between labels, at one z in each row"),
        steps,
        row_labels=[f"{names[one]} to {names[other]}" for one, other in pairs],
        column_labels=[f"{value:.1f}" for value in share.flatten()],
    )


def attributes(experiment: Experiment, state: TrainState) -> Picture:
    """Test examples with the attribute "is a k" added by arithmetic on latents.

    A column adds to E[z | x] the mean latent of class k minus that of all others
    (`query.attribute`).

    Raises:
      InputError: the data are no images or have no labels, there is no encoder, or the
        model is given the labels, so that latents need not hold them.
    """
    require_attributes(experiment, state, "attributes")
    columns = min(experiment.dataset.spec.classes, images_per_row(experiment, 12) - 2)
    batch = held_out_examples(experiment, MOST)
    means = posterior_means(experiment, state, batch)
    y = batch["y"]
    added = np.stack([query.direction(means, y == k) for k in range(columns)])
    rows = min(ROWS, len(means))
    names = abbreviated(experiment.dataset.spec.class_names[:columns])
    shift = np.concatenate([np.zeros_like(added[:1]), added])
    z = means[:rows, None] + shift
    each = np.arange(rows).repeat(len(shift))
    x = decode_grid(experiment, state, z, conditions_at(experiment, batch, each))
    x = np.concatenate([batch["x"][:rows, None], x], 1)
    return grid_figure(
        enlarge(x.reshape(-1, *x.shape[2:])),
        heading(experiment, "latents plus the mean of a class minus that of the rest"),
        columns + 2,
        column_labels=["example", "decoded", *(f"+ {name}" for name in names)],
    )


def completions(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """The seen part of test examples, the baseline's guess, and several completions.

    Raises:
      InputError: the model completes nothing.
    """
    require_context(experiment, state, "completions")
    draws = images_per_row(experiment, 10) - 3
    batch = held_out_examples(experiment, ROWS)
    given = {name: jnp.asarray(batch[name]) for name in ("context", "seen")}
    guess = parallel.compile_function(guessed, experiment.model)
    drawn = [
        query.sample(experiment, state, key, len(batch["x"]), given=given)
        for key in jax.random.split(jax.random.key(seed), draws)
    ]
    # The part that is not seen is a middle grey.
    seen = np.where(batch["seen"] == 1, batch["context"], 0.5)
    columns = [seen, guess(variables_of(state), given)[0], *drawn, batch["x"]]
    x = np.stack([np.asarray(column) for column in columns], 1)
    return grid_figure(
        enlarge(x.reshape(-1, *x.shape[2:])),
        heading(experiment, "test examples completed, E[x | z, seen]"),
        len(columns),
        column_labels=["seen", "baseline", *(f"{n + 1}" for n in range(draws)), "x"],
    )


def guessed(model: nn.Module, variables: Variables, given: Batch) -> Array:
    """The baseline's guess at the whole, `[1, N, H, W, C]`."""
    return model.apply(  # pyright: ignore[reportReturnType]
        variables, method=lambda parts: parts.guess(given).mean
    )


def prior_draws(
    experiment: Experiment, state: TrainState, num: int, seed: int
) -> np.ndarray:
    """z from the prior, `[num, latents]`, maps as rows."""
    key, given = jax.random.key(seed), conditions_to_generate(experiment, num)
    z = query.draw_latents(experiment, state, key, num, given)
    return np.asarray(z).reshape(num, -1)


def abbreviated(names: Sequence[str], most: int = 10) -> list[str]:
    """Names of classes that fit a column's head."""
    return [n if len(n) <= most else f"{n[: most - 1]}…" for n in names]


def images_per_row(experiment: Experiment, most: int) -> int:
    """Number of images in a row."""
    return columns_that_fit(experiment.dataset.spec.shape, most)
