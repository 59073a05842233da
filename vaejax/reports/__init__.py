"""Pages about runs, complete in one file: `report.html`, and comparisons."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.storage import path_of, write_whole
from vaejax.sharing.manifest import refuse_shared
from vaejax.training.recorder import count_parameters
from vaejax.training.workdir import load, read_config

if TYPE_CHECKING:  # loads what no training needs
    from vaejax.training.facts import Facts

NAME = "report.html"
MOST_SAMPLED = 8
"""Groups of runs whose samples a comparison draws: each run is loaded for them."""


def report(
    *workdirs: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> Path:
    """Writes a page about a run, or one that compares several.

    The page holds all it shows and loads nothing: configuration, versions, curves,
    pictures, timing, and the metrics with their standard errors. Scripts write it when
    training or an evaluation ends; `vaejax.train` does not.

    Args:
      workdirs: runs; the folder of a study stands for its replicas.
      out: where to write; None is `report.html` in the folder that is given, or in the
        current folder where several are.

    Returns:
      The path that was written.

    Raises:
      InputError: runs of different data sets or likelihoods, which do not compare; no
        folder, one that holds no run or a run without metrics, or a
        single run without a checkpoint; a run that is given twice.
    """
    from vaejax.reports.comparison import check_comparable, expanded
    from vaejax.training.facts import gather_facts

    if not workdirs:
        raise InputError("there is no run to report on: give at least one workdir")
    folders = [path_of(workdir) for workdir in workdirs]
    for folder in folders:
        refuse_shared(folder, "its README.md is its report")
    runs = expanded(folders)
    for run in runs:
        read_config(run)
    place = (
        path_of(out) if out else (folders[0] if len(folders) == 1 else Path()) / NAME
    )
    if not place.parent.is_dir():
        raise InputError(f"--out {place}: there is no folder {place.parent}")
    if runs == folders[:1]:
        return write_report(runs[0], *load(runs[0]), place)
    facts = [gather_facts(run) for run in runs]
    # A study varies what it was asked to; runs given by hand must compare.
    if len(folders) > 1:
        check_comparable(facts)
    return write_comparison(facts, place)


def write_report(
    workdir: Path, experiment: Experiment, state: TrainState, out: Path | None = None
) -> Path:
    """Writes the page about a run that is loaded already."""
    from vaejax.reports import pictures  # loads matplotlib
    from vaejax.reports.page import page
    from vaejax.training.facts import gather_facts

    place = out or workdir / NAME
    facts = gather_facts(workdir)
    text = page(
        "run.html",
        facts=facts,
        experiment=experiment,
        step=int(state.step),
        parameters=count_parameters(state),
        curves=pictures.embedded_curves(experiment, state, workdir),
        pictures=list(pictures.pictures(experiment, state, workdir)),
    )
    write_whole(place, text)
    return place


def write_comparison(runs: "Sequence[Facts]", out: Path) -> Path:
    """Writes the page that compares runs; those that differ in their seeds alone are
    one group of it.
    """
    from vaejax.plots.compared import colours
    from vaejax.reports import comparison, pictures
    from vaejax.reports.groups import count_diverged, group_by_seed, group_outcomes
    from vaejax.reports.page import page

    workdirs = [run.workdir for run in runs]
    names, groups = comparison.short_names(workdirs), group_by_seed(runs)
    palette = colours(len(groups))
    several = len(groups) < len(runs)
    if not several:
        groups = [g._replace(name=names[g.runs[0]]) for g in groups]
    colour_of = {n: palette[i] for i, g in enumerate(groups) for n in g.runs}
    sampled = [n for n in (g.first(runs) for g in groups) if n is not None]
    text = page(
        "comparison.html",
        runs=[(run, names[n], colour_of[n]) for n, run in enumerate(runs)],
        several=several,
        groups=[
            (g, colour, count_diverged(g, runs))
            for g, colour in zip(groups, palette, strict=True)
        ],
        means=group_outcomes(groups, runs),
        settings=comparison.differing_settings(runs),
        conditions=comparison.conditions(runs),
        outcomes=comparison.run_outcomes(runs),
        samples=[
            (names[n], colour_of[n], pictures.samples_of(workdirs[n]))
            for n in sampled[:MOST_SAMPLED]
        ],
        unsampled=len(sampled[MOST_SAMPLED:]),
        curves=pictures.embedded_comparison(
            [[runs[n].rows for n in g.runs] for g in groups],
            comparison.merged_quantities(runs),
        ),
    )
    write_whole(out, text)
    return out
