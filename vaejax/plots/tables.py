"""Pictures of tables: a small panel for each of the first columns, in its own units."""

import jax
import numpy as np
from matplotlib.axes import Axes

from vaejax.apply import query
from vaejax.experiment import Experiment, TrainState
from vaejax.plots.examples import MOST, reconstructed
from vaejax.plots.frame import Picture, heading, panels
from vaejax.training.evaluator import conditions_to_generate, held_out_examples

COLUMNS = 12  # at most so many columns are drawn
ENTRIES = 2_000_000  # of a wide table fewer rows are looked at
DATA, MODEL = "tab:gray", "tab:orange"


def table_samples(experiment: Experiment, state: TrainState, seed: int) -> Picture:
    """Histograms of columns: the training split against as many draws of the model."""
    x = experiment.dataset.split("train")["x"][: rows_to_draw(experiment)]
    key, given = jax.random.key(seed), conditions_to_generate(experiment, len(x))
    drawn = query.sample(experiment, state, key, len(x), noise=True, given=given)
    data, model = (own_units(experiment, a) for a in (x, np.asarray(drawn)))

    def draw(axes: Axes, i: int) -> None:
        both = np.concatenate([data[:, i], model[:, i]])
        bins = np.histogram_bin_edges(both, 30).tolist()
        axes.hist(data[:, i], bins, density=True, color=DATA, alpha=0.5, label="data")
        axes.hist(
            model[:, i], bins, density=True, color=MODEL, histtype="step", label="model"
        )
        axes.set_title(named(experiment, i), fontsize=9)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        if i == 0:
            axes.legend(fontsize=8, frameon=False)

    what = "training data against samples of the model"
    title = heading(experiment, what + of_all(data))
    return panels(min(COLUMNS, data.shape[1]), title, draw)


def table_reconstructions(experiment: Experiment, state: TrainState) -> Picture:
    """E[x | z] at z = E[z | x] against x, test split."""
    batch = held_out_examples(experiment, rows_to_draw(experiment))
    rebuilt = reconstructed(experiment, state, batch)
    data, model = (own_units(experiment, a) for a in (batch["x"], rebuilt))

    def draw(axes: Axes, i: int) -> None:
        ends = [data[:, i].min(), data[:, i].max()]
        axes.plot(ends, ends, color=DATA, linewidth=1)
        axes.scatter(data[:, i], model[:, i], 6, color=MODEL, alpha=0.5, linewidths=0)
        axes.set_title(named(experiment, i), fontsize=9)
        axes.locator_params(nbins=4)
        axes.set_xlabel("x", fontsize=8)
        axes.set_ylabel("reconstruction", fontsize=8)

    what = "reconstruction against x, test split (line: no error)"
    title = heading(experiment, what + of_all(data))
    return panels(min(COLUMNS, data.shape[1]), title, draw)


def rows_to_draw(experiment: Experiment) -> int:
    """Number of rows drawn."""
    return min(MOST, max(100, ENTRIES // experiment.dataset.spec.shape[0]))


def named(experiment: Experiment, place: int, most: int = 24) -> str:
    """The name of a column."""
    columns = experiment.dataset.spec.columns
    name = columns[place].name if columns else f"column {place}"
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def of_all(x: np.ndarray) -> str:
    """Says that some columns are not drawn, where they are not."""
    count = x.shape[1]
    return f", the first {COLUMNS} of {count:,} columns" if count > COLUMNS else ""


def own_units(experiment: Experiment, x: np.ndarray) -> np.ndarray:
    """A table in the units of its columns."""
    return experiment.preprocess.restore(x)
