"""Held-out examples in the space of latents."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from vaejax.experiment import Experiment, TrainState
from vaejax.plots.examples import MOST, posterior_means
from vaejax.plots.frame import Picture, heading
from vaejax.training.evaluator import held_out_examples


def latents(experiment: Experiment, state: TrainState) -> Picture:
    """The posterior means of the test split (at most 5,000), coloured by label.

    Two latents are shown as they are, more by their first two principal components, a
    single one over the order of the examples.
    """
    batch = held_out_examples(experiment, MOST)
    means = posterior_means(experiment, state, batch)
    points, labels = plane(means)
    figure = Picture(figsize=(7, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    scatter(axes, points, batch.get("y"), experiment.dataset.spec.class_names)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if means.shape[1] > 1:
        axes.set_aspect("equal", adjustable="datalim")  # both axes have one unit
    axes.spines[["top", "right"]].set_visible(False)
    what = f"posterior means of {len(means):,} test examples"
    axes.set_title(heading(experiment, what), fontsize=11)
    return figure


def plane(
    means: Float[np.ndarray, "N latents"],
) -> tuple[Float[np.ndarray, "N 2"], tuple[str, str]]:
    """Points to draw, and what their two coordinates are."""
    if means.shape[1] == 1:
        order = np.arange(len(means))[:, None]
        return np.concatenate([means, order], 1), ("z[0]", "test example")
    if means.shape[1] == 2:
        return means, ("z[0]", "z[1]")
    from sklearn.decomposition import PCA  # slow to import

    pca = PCA(2)
    points = pca.fit_transform(means)
    first, second = (
        f"principal component {i + 1} of {means.shape[1]} latents "
        f"({share:.0%} of their variance)"
        for i, share in enumerate(pca.explained_variance_ratio_)
    )
    return points, (first, second)


def scatter(
    axes: Axes, points: np.ndarray, y: np.ndarray | None, classes: Sequence[str]
) -> None:
    """Points coloured by class: with a legend up to 10 classes, then a colour bar.

    Those of a class that training lacks are grey.
    """
    size = 16 if len(points) <= 1000 else 7
    style = {"s": size, "alpha": 0.75, "linewidths": 0}
    if y is None:
        axes.scatter(*points.T, **style)
        return
    unseen = y < 0
    if unseen.any():
        axes.scatter(*points[unseen].T, color="lightgrey", label="not trained", **style)
        points, y = points[~unseen], y[~unseen]
    if len(classes) > 10:
        drawn = axes.scatter(*points.T, c=y, cmap="turbo", **style)
        called = dict(enumerate(classes))
        axes.figure.colorbar(
            drawn, ax=axes, label="class", format=lambda k, _: called.get(k, "")
        )
        return
    # One draw for all classes: else the last class would hide those before it.
    drawn = axes.scatter(*points.T, c=y, cmap="tab10", vmin=-0.5, vmax=9.5, **style)
    there = sorted(set(y.tolist()))
    handles, _ = drawn.legend_elements(num=there, alpha=1)
    names = [classes[int(k)] for k in there]
    if unseen.any():
        handles, names = [*handles, axes.collections[0]], [*names, "not trained"]
    axes.legend(
        handles, names, title="class", loc="center left", bbox_to_anchor=(1, 0.5)
    )
