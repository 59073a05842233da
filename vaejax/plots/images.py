"""Pictures of images: what the model makes of z, and of held-out examples."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.apply import query
from vaejax.apply.capabilities import latent_shape
from vaejax.data.kinds import by_kind
from vaejax.experiment import Experiment, TrainState
from vaejax.plots import tables
from vaejax.plots.examples import (
    MOST,
    conditions_at,
    posterior_means,
    reconstructed,
    require_pictures,
    require_plane,
)
from vaejax.plots.factors import ordered_latents
from vaejax.plots.frame import Picture, heading
from vaejax.plots.grid import columns_that_fit, enlarge, grid_figure
from vaejax.training.evaluator import conditions_to_generate, held_out_examples


def samples(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """Samples of the model.

    Images: a grid of E[x | z], z from the prior. Tables: histograms of columns, data
    against draws from p(x | z), z from the prior.

    Args:
      seed: of the draws.
    """
    kinds = {"image": image_samples, "table": tables.table_samples}
    return by_kind(experiment.dataset.spec, kinds, "samples")(experiment, state, seed)


def image_samples(experiment: Experiment, state: TrainState, seed: int) -> Picture:
    """A grid of E[x | z], z from the prior."""
    columns = columns_that_fit(experiment.dataset.spec.shape, 10)
    num, key = columns * columns, jax.random.key(seed)
    given = conditions_to_generate(experiment, num)
    x = query.sample(experiment, state, key, num, given=given)
    title = heading(experiment, "samples, E[x | z] with z from the prior")
    return grid_figure(enlarge(np.asarray(x)), title, columns)


def reconstructions(experiment: Experiment, state: TrainState) -> Picture:
    """Test examples and their reconstructions E[x | z] at z = E[z | x].

    Images: in pairs, the original above. Tables: one against the other, by column.
    """
    kinds = {"image": image_pairs, "table": tables.table_reconstructions}
    return by_kind(experiment.dataset.spec, kinds, "reconstructions")(experiment, state)


def image_pairs(experiment: Experiment, state: TrainState) -> Picture:
    """Test examples, below each its reconstruction."""
    columns = columns_that_fit(experiment.dataset.spec.shape, 10)
    batch = held_out_examples(experiment, 3 * columns)
    columns = min(columns, len(batch["x"]))
    rows = len(batch["x"]) // columns
    batch = {name: array[: rows * columns] for name, array in batch.items()}
    x = batch["x"]
    lines = np.stack([x, reconstructed(experiment, state, batch)])
    lines = lines.reshape(2, rows, columns, *x.shape[1:]).swapaxes(0, 1)
    return grid_figure(
        enlarge(lines.reshape(-1, *x.shape[1:])),
        heading(experiment, "test examples, below each its reconstruction"),
        columns,
        row_labels=["example", "model"] * rows,
    )


def interpolation(experiment: Experiment, state: TrainState) -> Picture:
    """Between pairs of test examples, on the line between their posterior means.

    Raises:
      InputError: the data are no images.
    """
    require_pictures(experiment, state, "interpolation")
    steps = columns_that_fit(experiment.dataset.spec.shape, 12) - 2
    batch = held_out_examples(experiment, 16)
    x, pairs = batch["x"], len(batch["x"]) // 2
    ends = posterior_means(experiment, state, batch)
    share = np.linspace(0, 1, steps)[None, :, None]
    z = (1 - share) * ends[:pairs, None] + share * ends[pairs : 2 * pairs, None]
    given = conditions_at(experiment, batch, np.arange(pairs).repeat(steps))
    between = decode_grid(experiment, state, z, given)
    rows = np.concatenate([x[:pairs, None], between, x[pairs : 2 * pairs, None]], 1)
    title = heading(experiment, "between test examples, linear in their latents")
    inner = ["decoded", *[""] * (steps - 2), "decoded"]
    return grid_figure(
        enlarge(rows.reshape(-1, *x.shape[1:])),
        title,
        steps + 2,
        column_labels=["example", *inner, "example"],
    )


def decode_grid(
    experiment: Experiment,
    state: TrainState,
    z: np.ndarray,
    given: query.Given = query.NOTHING,
) -> np.ndarray:
    """E[x | z] for `z` `[..., latents]`, maps as rows; `given` is flat over these."""
    shape = latent_shape(experiment, state)
    flat = z.reshape(-1, *shape).astype(np.float32)
    x = np.asarray(query.decode(experiment, state, jnp.asarray(flat), given))
    return x.reshape(*z.shape[:-1], *x.shape[1:])


def traversal(
    experiment: Experiment, state: TrainState, *, example: int = 0
) -> Picture:
    """One latent at a time from -3 to 3, the others as in one test example.

    A row is a latent, at most 10; those with the largest KL(q || p) over test examples
    are first, or of a model that has not that of each latent, those whose E[z | x]
    varies most [Burda et al. 2016, sec. 5].

    Args:
      example: which test example, in a fixed order.

    Raises:
      InputError: the data are no images.
    """
    require_pictures(experiment, state, "traversal")
    batch = held_out_examples(experiment, MOST)
    x, means = batch["x"], posterior_means(experiment, state, batch)
    chosen, labels = ordered_latents(experiment, state, batch, means, 10)
    values = np.linspace(-3, 3, 13 if columns_that_fit(x.shape[1:], 13) == 13 else 7)
    z = np.tile(means[example % len(means)], (len(chosen), len(values), 1))
    z[np.arange(len(chosen)), :, chosen] = values
    which = example % len(means)
    size = z.shape[0] * z.shape[1]
    given = conditions_at(experiment, batch, np.full(size, which))
    title = heading(
        experiment, "one latent at a time, from -3 to 3, the most informed first"
    )
    return grid_figure(
        enlarge(decode_grid(experiment, state, z, given).reshape(-1, *x.shape[1:])),
        title,
        len(values),
        row_labels=labels,
        column_labels=[f"{value:g}" for value in values],
    )


def manifold(experiment: Experiment, state: TrainState) -> Picture:
    """E[x | z] over the plane of latents, by quantiles of a standard normal.

    z = (Phi^-1(u), Phi^-1(v)) for u, v on a grid of the unit square [Kingma & Welling
    2014, fig. 4]; z[0] grows to the right and z[1] upwards, as in the picture latents.
    With another prior these are no quantiles of its own, and may miss where it is.

    Raises:
      InputError: the data are no images, or there are not 2 latents.
    """
    require_plane(experiment, state, "manifold")
    side = columns_that_fit(experiment.dataset.spec.shape, 15)
    values = quantiles(side)
    z = np.stack(np.meshgrid(values, values[::-1]), -1)
    one = conditions_to_generate(experiment, 1)
    given = {name: array.repeat(side * side, 0) for name, array in one.items()}
    x = decode_grid(experiment, state, z, given)
    title = heading(experiment, "E[x | z] over the latent plane (z[0] right, z[1] up)")
    return grid_figure(
        enlarge(x.reshape(-1, *x.shape[2:])),
        title,
        side,
        row_labels=[f"{value:.2f}" for value in values[::-1]],
        column_labels=[f"{value:.2f}" for value in values],
    )


def quantiles(count: int) -> np.ndarray:
    """Phi^-1 at the middles of `count` equal parts of [0, 1]."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
