"""Pictures of known factors of variation: which latents tell of them."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.disentanglement.information import (
    factor_entropies,
    information_matrix,
)
from vaejax.plots.examples import MOST, encoding_of, posterior_means, require_posterior
from vaejax.plots.frame import Picture, heading
from vaejax.training.evaluator import held_out_examples

ROWS = 40
"""Latents that are shown, at most."""
READABLE = 0.55
"""Share of the information from which its number is dark on a bright cell."""


def factors(experiment: Experiment, state: TrainState) -> Picture:
    """The mutual information of each latent with each known factor, over H(factor).

    Of the means of q(z | x) in 20 bins: what MIG takes its gaps of. Of training
    examples, at most 5000, as few examples of each value would seem to inform. The
    latents with the largest KL are first, as in the picture traversal.

    Args:
      experiment: what was trained.
      state: its parameters.

    Raises:
      InputError: the data has no known factors, or the model no encoder.
    """
    require_factors(experiment, state, "factors")
    batch = held_out_examples(experiment, MOST, "train")
    means = posterior_means(experiment, state, batch)
    order, labels = ordered_latents(experiment, state, batch, means, ROWS)
    known = batch["factors"]
    varies = known.min(0) < known.max(0)
    share = np.zeros((len(order), known.shape[1]))
    information = information_matrix(means[:, order].astype(float), known[:, varies])
    share[:, varies] = information / factor_entropies(known[:, varies])
    names = [factor.name for factor in experiment.dataset.spec.factors]
    title = heading(experiment, "I(z; factor) / H(factor), by 20 bins of means")
    return heat_map(share, labels, names, title)


def heat_map(
    values: Float[np.ndarray, "rows columns"],
    rows: list[str],
    columns: list[str],
    title: str,
) -> Picture:
    """Cells from 0 to 1 with their numbers."""
    size = (max(4.8, 0.8 * len(columns) + 2.4), 0.36 * len(rows) + 1.6)
    figure = Picture(figsize=size, dpi=100, layout="constrained")
    axes: Axes = figure.add_subplot()
    image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if value > READABLE else "white"
        how = {"ha": "center", "va": "center", "color": colour, "fontsize": 8}
        axes.text(column, row, f"{value:.2f}", **how)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, fraction=0.04)
    figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def ordered_latents(
    experiment: Experiment,
    state: TrainState,
    batch: dict[str, np.ndarray],
    means: Float[np.ndarray, "N latents"],
    most: int,
) -> tuple[np.ndarray, list[str]]:
    """Latents in the order of pictures, and their labels: by their KL, nats, where the
    model has that of each, else by the variance of their means.
    """
    kl = encoding_of(experiment, state, batch).get("latent_kl")
    worth = means.var(0, ddof=1) if kl is None else kl.mean(0)
    word = "var" if kl is None else "KL"
    order = np.argsort(-worth, kind="stable")[:most]
    return order, [f"z[{i}]  {word} {worth[i]:.2f}" for i in order]


def require_factors(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where no factor is known, or there is no encoder."""
    require_posterior(experiment, state, what)
    if not experiment.dataset.spec.factors:
        raise InputError(f"{what} needs data with known factors, as sprites has")
