"""Pages about runs, complete in one file: `report.html`, and comparisons."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.limits import check_count
from vaejax.runtime.storage import is_remote, path_of, write_whole
from vaejax.sharing.manifest import refuse_shared
from vaejax.training.introduction import count_parameters
from vaejax.training.workdir import load, read_config

if TYPE_CHECKING:  # loads what no training needs
    from vaejax.reports.comparing import Comparison

NAME = "report.html"
MOST_SAMPLED = 8
"""Groups of runs whose samples a comparison draws: each run is loaded for them."""


def report(
    workdir: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None
) -> Path:
    """Writes a page about a run, or about all runs of a study.

    The page holds all it shows and loads nothing: the card of the run, curves and
    pictures. Scripts write it when training or an evaluation ends; `vaejax.train` does
    not. Several runs are compared by `vaejax.compare`.

    Args:
      workdir: a run, or the folder of a study, whose runs are shown side by side.
      out: where to write; None is `report.html` in that folder.

    Returns:
      The path that was written.

    Raises:
      InputError: no folder, one that holds no run or a run without metrics, or a
        single run without a checkpoint.
    """
    from vaejax.reports.comparing import compared_runs, open_runs
    from vaejax.reports.comparison import runs_in
    from vaejax.training.card import card_of
    from vaejax.training.facts import gather_facts

    folder = path_of(workdir)
    refuse_shared(folder, "its README.md is its report")
    place = folder / NAME if out is None else page_place(out)
    if runs_in(folder) != [folder]:
        return write_comparison(compared_runs(open_runs([folder], least=1)), place)
    read_config(folder)
    loaded = load(folder)
    return write_report(folder, *loaded, card_of(gather_facts(folder)), place)


def compare(
    *workdirs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    split: str = "test",
    metrics: Sequence[str] = (),
    devices: int | None = 1,
    quiet: bool = False,
) -> "Comparison":
    """Compares runs: their numbers, example by example, and over seeds.

    Differences are to the first run, or to the first group of runs that differ in their
    seeds alone. Over the same examples a difference has the standard error of the
    paired differences, which says how far another test set would fall; over seeds, that
    of Welch, which says how far another training would fall. For the first, a run's
    `per_example.npz` is read where it is of the same inputs and of the run's present
    state; other runs are evaluated, with the noise of the first one.

    Args:
      workdirs: runs; the folder of a study stands for its replicas.
      out: a page of HTML to write, with curves and samples beside the numbers.
      samples: importance samples of each example; None is as in the file of the first
        run, or 0, which leaves `nll` out.
      split: the examples to pair: train, validation or test.
      metrics: the numbers to show, by name; by default all.
      devices: devices to use of each host.
      quiet: whether stderr is told nothing of the evaluations.

    Returns:
      The runs, their groups, and the differences; `record()` has all as JSON values.

    Raises:
      InputError: fewer than two runs, one that is given twice, runs of different data
        sets or likelihoods, or a metric that no run has.
    """
    from vaejax.reports.comparing import compared_runs, open_runs
    from vaejax.reports.pairing import Wanted

    if samples is not None:
        check_count("samples", samples)
    place = None if out is None else page_place(out)
    runs = open_runs(workdirs)
    say = (lambda line: None) if quiet else to_stderr
    found = compared_runs(runs, metrics, Wanted(split, samples, devices, say))
    if place is not None:
        write_comparison(found, place)
    return found


def page_place(out: str | os.PathLike[str]) -> Path:
    """The file of a page; InputError where its folder does not exist."""
    place = path_of(out)
    if not is_remote(place) and not place.parent.is_dir():
        raise InputError(f"--out {place}: there is no folder {place.parent}")
    return place


def to_stderr(line: str) -> None:
    """Says a line while something takes long."""
    print(line, file=sys.stderr, flush=True)


def write_report(
    workdir: Path,
    experiment: Experiment,
    state: TrainState,
    card: Mapping[str, Any],
    out: Path | None = None,
) -> Path:
    """Writes the page about a run that is loaded already, from its card."""
    from vaejax.data.remarks import column_rows
    from vaejax.reports import pictures  # loads matplotlib
    from vaejax.reports.page import class_words, page, settings_of_card
    from vaejax.training.card import card_values

    place = out or workdir / NAME
    text = page(
        "run.html",
        workdir=workdir,
        card=card,
        settings=settings_of_card(card),
        values=card_values(card),
        classes=class_words(card["data"]),
        columns=list(column_rows(experiment.dataset.spec.columns)),
        notes=experiment.notes,
        step=int(state.step),
        parameters=count_parameters(state),
        curves=pictures.embedded_curves(experiment, state, workdir),
        pictures=list(pictures.pictures(experiment, state, workdir)),
    )
    write_whole(place, text)
    return place


def write_comparison(found: "Comparison", out: Path) -> Path:
    """Writes the page that compares runs; those that differ in their seeds alone are
    one group of it.
    """
    from vaejax.plots.compared import colours
    from vaejax.reports import comparison, pictures
    from vaejax.reports.groups import count_diverged
    from vaejax.reports.page import page

    runs, names, groups = found.runs, found.names, found.groups
    palette = colours(len(groups))
    colour_of = {n: palette[i] for i, g in enumerate(groups) for n in g.runs}
    sampled = [n for n in (g.first(runs) for g in groups) if n is not None]
    text = page(
        "comparison.html",
        found=found,
        runs=[(run, names[n], colour_of[n]) for n, run in enumerate(runs)],
        groups=[
            (g, colour, count_diverged(g, runs))
            for g, colour in zip(groups, palette, strict=True)
        ],
        settings=comparison.differing_settings(runs),
        conditions=comparison.conditions(runs),
        samples=[
            (names[n], colour_of[n], pictures.samples_of(runs[n].workdir))
            for n in sampled[:MOST_SAMPLED]
        ],
        unsampled=len(sampled[MOST_SAMPLED:]),
        curves=pictures.embedded_comparison(
            [[runs[n].rows for n in g.runs] for g in groups], found.quantities
        ),
    )
    write_whole(out, text)
    return out
