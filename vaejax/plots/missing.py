"""Pictures of what is filled in where an image is not observed."""

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.inference.imputation import LEAST_ESS, importance_imputation
from vaejax.plots.examples import require_imputer
from vaejax.plots.frame import Picture, heading
from vaejax.plots.grid import columns_that_fit, enlarge, grid_figure
from vaejax.training.evaluator import held_out_examples

ROWS = 8
SAMPLES = 1000


def imputations(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """The observed part of test examples, their single imputation, and several draws.

    The others are E[x | z] at draws of z from p(z | x_observed): draws of pixels would
    speckle. Where nothing is missing from the data, the lower half of each example is
    hidden. Beside a row is the effective number of its importance samples: where it is
    small the draws repeat each other, whatever the model knows.

    Raises:
      InputError: the data are no images, or the model has no density.
    """
    require_imputer(experiment, state, "imputations")
    draws = columns_that_fit(experiment.dataset.spec.shape, 10) - 3
    batch = held_out_examples(experiment, ROWS)
    x, mask = batch["x"], batch.get("mask")
    if mask is None:
        mask = np.ones_like(x)
        mask[:, x.shape[1] // 2 :] = 0
    there = {"x": jnp.asarray(np.where(mask == 1, x, 0)), "mask": jnp.asarray(mask)}
    settings = {"samples": SAMPLES, "draws": draws, "noise": False}
    run = parallel.compile_function(importance_imputation, experiment.model, **settings)
    filled = run(variables_of(state), there, jax.random.key(seed))
    # What is not observed is a middle grey.
    seen, truth = np.where(mask == 1, x, 0.5), x + batch.get("truth", 0)
    completions = [np.where(mask == 1, x, c) for c in (filled.mean, *filled.draws)]
    columns = [seen, *completions, truth]
    images = np.stack([np.asarray(column) for column in columns], 1)
    numbers = [str(number + 1) for number in range(draws)]
    title = heading(experiment, "test examples and completions of them")
    if (filled.ess < LEAST_ESS).any():
        title += f" (weights collapse: ESS below {LEAST_ESS:g} of {SAMPLES})"
    return grid_figure(
        enlarge(images.reshape(-1, *images.shape[2:])),
        title,
        len(columns),
        row_labels=[f"ESS {ess:.0f}" for ess in np.asarray(filled.ess)],
        column_labels=["observed", "mean", *numbers, "x"],
    )
