"""Pictures of a run's laboratory, from the numbers that evaluate.py --what has kept."""

import os
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.laboratory.record import NAME, measurements_in
from vaejax.plots.frame import Picture, heading, panels
from vaejax.runtime.storage import path_of

Workdir = str | os.PathLike[str]


def entry_of_laboratory(workdir: Workdir, name: str) -> dict[str, Any]:
    """The values of a measurement; InputError where there is none."""
    entries = measurements_in(path_of(workdir) / NAME)
    if name not in entries:
        raise InputError(
            f"{workdir} has no measurement {name}: evaluate.py RUN --what {name}"
        )
    return entries[name]["values"]


def nll_over_k(experiment: Experiment, state: TrainState, workdir: Workdir) -> Picture:
    """-log p(x) against the number of importance samples.

    The band is a standard error of the distance to the largest number, over examples.

    Args:
      experiment: what was trained.
      state: its parameters.
      workdir: where `laboratory.json` is.

    Raises:
      InputError: the run was not measured so.
    """
    del state
    values = entry_of_laboratory(workdir, "nll_over_k")
    k, nll = np.array(values["k"]), np.array(values["nll"])
    error = np.array(values["above_largest_se"], float)  # None becomes NaN

    def draw(axes: Axes, i: int) -> None:
        axes.plot(k, nll, marker="o", ms=3, color="tab:blue")
        axes.fill_between(k, nll - error, nll + error, alpha=0.2, color="tab:blue")
        axes.set_xscale("log")
        axes.set_xlabel("importance samples K", fontsize=9)
        axes.set_ylabel("nats", fontsize=9)

    figure = panels(1, heading(experiment, "-log p(x) over K"), draw)
    figure.set_size_inches(5.6, 3.6)
    return figure


def rate_distortion(
    experiment: Experiment, state: TrainState, workdir: Workdir
) -> Picture:
    """Rate against distortion: the curve of the decoder, and the encoder's point.

    Args:
      experiment: what was trained.
      state: its parameters.
      workdir: where `laboratory.json` is.

    Raises:
      InputError: the run was not measured so.
    """
    del state
    values = entry_of_laboratory(workdir, "rate_distortion")
    beta, rate = np.array(values["beta"]), np.array(values["rate"])
    distortion = np.array(values["distortion"])
    one = int(np.argmin(np.abs(beta - 1)))

    def draw(axes: Axes, i: int) -> None:
        axes.plot(distortion, rate, marker=".", color="tab:blue", label="best codes")
        axes.plot(distortion[one], rate[one], "o", color="tab:blue", label="posterior")
        own = values["encoder_distortion"], values["encoder_rate"]
        axes.plot(*own, "s", color="tab:red", label="encoder")
        axes.axline(own, slope=-1, color="tab:red", lw=0.8, ls=":", label="its ELBO")
        axes.set_ylim(0, 1.15 * max(rate.max(), own[1]))
        axes.set_xlabel("distortion -E log p(x | z), nats", fontsize=9)
        axes.set_ylabel("rate KL(q || p), nats", fontsize=9)
        axes.legend(fontsize=8, frameon=False)

    figure = panels(1, heading(experiment, "rate and distortion"), draw)
    figure.set_size_inches(5.6, 4.2)
    return figure


PARTS = (
    ("approximation_gap", "approximation", "tab:orange"),
    ("amortization_gap", "amortization", "tab:blue"),
)


def gaps(experiment: Experiment, state: TrainState, workdir: Workdir) -> Picture:
    """The gap between log p(x) and the ELBO, split for each family of Gaussians.

    Args:
      experiment: what was trained.
      state: its parameters.
      workdir: where `laboratory.json` is.

    Raises:
      InputError: the run was not measured so.
    """
    del state
    values = entry_of_laboratory(workdir, "gaps")
    families = [f for f in ("diagonal", "full") if f"elbo_{f}" in values]

    def draw(axes: Axes, i: int) -> None:
        for row, family in enumerate(families):
            start = 0.0
            for name, label, colour in PARTS:
                width = values[f"{name}_{family}"]
                axes.barh(
                    row,
                    width,
                    left=start,
                    xerr=values[f"{name}_{family}_se"],
                    color=colour,
                    height=0.5,
                    label=label if row == 0 else None,
                    error_kw={"lw": 1, "capsize": 3},
                )
                start += width
        axes.set_yticks(range(len(families)), families, fontsize=9)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.invert_yaxis()
        axes.set_xlabel("nats below log p(x)", fontsize=9)
        axes.legend(fontsize=8, frameon=False)

    figure = panels(1, heading(experiment, "gaps of inference"), draw)
    figure.set_size_inches(5.6, 2.8)
    return figure
