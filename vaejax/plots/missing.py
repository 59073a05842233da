"""Pictures of what is filled in where an image is not observed."""

import jax
import numpy as np

from vaejax.evaluation import held_out_examples
from vaejax.experiment import Experiment, TrainState
from vaejax.filling import impute
from vaejax.plots.examples import require_imputer
from vaejax.plots.frame import Picture, heading
from vaejax.plots.grid import enlarge, fitting, grid_figure

ROWS = 8
SAMPLES = 1000


def imputations(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """What is observed of test examples, their single imputation, and several draws.

    Where nothing is missing from the data, the lower half of each example is hidden.

    Raises:
      InputError: the data are no images, or the model has no density.
    """
    require_imputer(experiment, state, "imputations")
    draws = fitting(experiment.dataset.spec.shape, 10) - 3
    batch = held_out_examples(experiment, ROWS)
    x, mask = batch["x"], batch.get("mask")
    if mask is None:
        mask = np.ones_like(x)
        mask[:, x.shape[1] // 2 :] = 0
    key = jax.random.key(seed)
    filled = impute(
        experiment,
        state,
        x,
        mask,
        key,
        multiple=draws,
        samples=SAMPLES,
        batch_size=ROWS,
    )
    # What is not observed is a middle grey.
    seen, truth = np.where(mask == 1, x, 0.5), x + batch.get("truth", 0)
    columns = [seen, filled.single, *filled.draws, truth]
    images = np.stack([np.asarray(column) for column in columns], 1)
    numbers = [str(number + 1) for number in range(draws)]
    return grid_figure(
        enlarge(images.reshape(-1, *images.shape[2:])),
        heading(experiment, "test examples and draws of what is missing"),
        len(columns),
        column_labels=["observed", "mean", *numbers, "x"],
    )
