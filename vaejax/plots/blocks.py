"""Pictures of hierarchies: what each block of latents holds."""

import jax
import numpy as np
from matplotlib.axes import Axes

from vaejax.apply.blocks import kl_of_blocks, reconstruct_from_top
from vaejax.apply.capabilities import block_names
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.plots.examples import asked, require_pictures
from vaejax.plots.frame import Picture, heading, panels
from vaejax.plots.grid import columns_that_fit, enlarge, grid_figure
from vaejax.training.evaluator import held_out_examples

EXAMPLES = 1000
"""Examples whose KL terms are averaged."""
ROWS = 8
"""Numbers of blocks that are shown, at most."""


def blocks(experiment: Experiment, state: TrainState, *, seed: int = 0) -> Picture:
    """The KL term of each block of latents, nats: how much of x it holds.

    The mean over test examples, at most 1000, of one draw each; the top block is on
    the right.

    Args:
      seed: of the draws.

    Raises:
      InputError: the model has one block of latents, or none.
    """
    require_blocks(experiment, state, "blocks")
    batch = asked(held_out_examples(experiment, EXAMPLES))
    found = kl_of_blocks(experiment, state, batch, jax.random.key(seed))
    means = {name: float(kl.mean()) for name, kl in found.items()}

    def draw(axes: Axes, i: int) -> None:
        del i
        bars = axes.bar(list(means), list(means.values()), color="tab:blue")
        if len(means) <= 2 * ROWS:
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set_ylabel("KL of the block, nats", fontsize=8)
        axes.set_xlabel("block, from the data to the top", fontsize=8)
        axes.tick_params(axis="x", labelrotation=90 if len(means) > ROWS else 0)

    total = sum(means.values())
    title = heading(experiment, f"KL of each block, {total:.1f} nats in all")
    figure = panels(1, title, draw)
    figure.set_figwidth(max(figure.get_figwidth(), 0.25 * len(means)))
    return figure


def layers(experiment: Experiment, state: TrainState) -> Picture:
    """Test examples, and E[x | z] where only the top blocks of latents are theirs.

    In each row more blocks have the means of their posteriors, from none to all; the
    others have those of the prior, given the blocks above.

    Raises:
      InputError: the model has one block of latents, or the data are no images.
    """
    require_layers(experiment, state, "layers")
    columns = columns_that_fit(experiment.dataset.spec.shape, 10)
    batch = held_out_examples(experiment, columns)
    most = len(block_names(experiment, state))
    counts = np.unique(np.linspace(0, most, min(most + 1, ROWS)).round().astype(int))
    x = batch["x"]
    made = reconstruct_from_top(experiment, state, asked(batch), counts.tolist())
    rows = np.concatenate([x[None], made])
    return grid_figure(
        enlarge(rows.reshape(-1, *x.shape[1:])),
        heading(experiment, "E[x | z], the top blocks of test examples alone"),
        len(x),
        row_labels=["example", *(f"top {n} of {most}" for n in counts)],
    )


def require_blocks(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where the model has fewer than two blocks of latents."""
    if len(block_names(experiment, state)) < 2:
        raise InputError(
            f"{what} needs a model with several blocks of latents, as ladder_vae"
        )


def require_layers(experiment: Experiment, state: TrainState, what: str) -> None:
    """Raises InputError where there are no images, or fewer than two blocks."""
    require_pictures(experiment, state, what)
    require_blocks(experiment, state, what)
