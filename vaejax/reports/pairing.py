"""Runs on the same examples: their files of numbers, or evaluations made alike."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.reports.differences import Difference, paired_difference
from vaejax.training.facts import Facts
from vaejax.training.per_example import (
    NAME,
    ExampleValues,
    MeasuredSplit,
    per_example,
    read_examples,
)
from vaejax.training.workdir import load, recorded_experiment

CLOSE = 1e-3
"""Fingerprints of equal inputs differ by rounding, far less; of others, by about 1."""


class Pairs(NamedTuple):
    """Differences to the first run, over the same examples."""

    examples: int
    samples: int
    """Importance samples of each."""
    first: int
    """The place of that run among all."""
    differences: Mapping[int, Mapping[str, Difference]]
    """Of each other run, by its place and by metric: it minus the first one."""


class Wanted(NamedTuple):
    """How examples are to be measured."""

    split: str = "test"
    samples: int | None = None
    """None is as in the file of the first run, or 0 where it has none."""
    devices: int | None = 1
    say: Callable[[str], None] = lambda line: None
    """Told which runs are evaluated, as that takes time."""


def pair_runs(runs: Sequence[Facts], wanted: Wanted) -> Pairs:
    """Differences of all runs that did not diverge to the first of these.

    A run's `per_example.npz` is read where it is of the same inputs, split and number
    of importance samples, and of the run's present state; else the run is evaluated,
    with the noise that the first one had.

    Raises:
      InputError: there are no two such runs, they measure nothing in common or saw
        other inputs, or one of them cannot be evaluated (its data is not here, say).
    """
    places = [n for n, run in enumerate(runs) if not run.diverged]
    if len(places) < 2:
        raise InputError("there are no two runs that did not diverge")
    sound = [runs[n] for n in places]
    check_measures([run.workdir for run in sound])
    first, *rest = examples_of_runs(sound, wanted)
    found = {}
    for place, each in zip(places[1:], rest, strict=True):
        if not same_inputs(first, each):
            raise InputError(
                f"{sound[0].workdir} and {runs[place].workdir} are not given the same "
                "inputs: they preprocess the examples differently"
            )
        found[place] = {
            name: paired_difference(first.values[name], each.values[name])
            for name in first.values
            if name in each.values
        }
    return Pairs(len(first.index), first.about.samples, places[0], found)


def check_measures(workdirs: Sequence[Path]) -> None:
    """InputError where runs measure no number of single examples in common."""
    names = [averaged_names(recorded_experiment(workdir)) for workdir in workdirs]
    for workdir, found in zip(workdirs[1:], names[1:], strict=True):
        if not names[0] & found:
            raise InputError(
                f"{workdirs[0]} and {workdir} measure nothing of single examples in "
                "common"
            )


def averaged_names(experiment: Experiment) -> set[str]:
    """The names of numbers that are means over examples, or follow from them."""
    metrics = experiment.metrics(0).values()
    return {name for each in metrics if each.each for name in each.quantities}


def examples_of_runs(runs: Sequence[Facts], wanted: Wanted) -> list[ExampleValues]:
    """The numbers of each run's examples, measured alike."""
    found: list[ExampleValues] = []
    for run in runs:
        kept = kept_examples(run, wanted)
        samples = wanted.samples
        if samples is None:
            samples = kept.about.samples if kept else 0
            wanted = wanted._replace(samples=samples)
        if kept and (not found or same_inputs(found[0], kept)):
            found.append(kept)
            continue
        wanted.say(f"evaluating {run.workdir} with {samples:,} importance samples")
        experiment, state = load(run.workdir)
        how = found[0].about if found else None
        found.append(measure_like(experiment, state, wanted, samples, how))
    return found


def measure_like(
    experiment: Experiment,
    state: TrainState,
    wanted: Wanted,
    samples: int,
    how: MeasuredSplit | None,
) -> ExampleValues:
    """An evaluation with the batches and the noise of another one, if any."""
    return per_example(
        experiment,
        state,
        split=wanted.split,
        samples=samples,
        batch_size=how.batch_size if how else 100,
        devices=wanted.devices,
        seed=how.seed if how else None,
    )


def kept_examples(run: Facts, wanted: Wanted) -> ExampleValues | None:
    """The content of the run's file, if it is what is wanted of its present state."""
    place = run.workdir / NAME
    if not place.exists():
        return None
    found = read_examples(place)
    about, samples = found.about, wanted.samples
    measured = about.split, about.samples, about.input
    asked = wanted.split, about.samples if samples is None else samples, ""
    of_run = run.preset, run.likelihood, run.data["digest"], newest_step(run.workdir)
    said = about.preset, about.likelihood, about.digest, about.step
    return found if (measured, said) == (asked, of_run) else None


def newest_step(workdir: Path) -> int | None:
    """The step of the state that `load` gives, where its checkpoint is sound."""
    for name in ("best", "checkpoints"):
        folder = workdir / name
        kept = list(folder.iterdir()) if folder.is_dir() else []
        if steps := [int(path.name) for path in kept if path.name.isdigit()]:
            return max(steps)
    return None


def same_inputs(first: ExampleValues, other: ExampleValues) -> bool:
    """Whether both models were given the same: the same draws of pixels, say."""
    if first.about.digest != other.about.digest or len(first.seen) != len(other.seen):
        return False
    return np.allclose(first.seen, other.seen, rtol=CLOSE, atol=CLOSE)
