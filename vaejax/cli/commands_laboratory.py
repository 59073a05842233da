"""The main of evaluate.py --what: measurements that take long."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaejax.cli.commands import keep_compiled
from vaejax.cli.effort import warn_of_passes
from vaejax.cli.outcome import place_of, writing
from vaejax.cli.tables_laboratory import print_measurement
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.laboratory.measure import Numbers, Tell, measure, measurement_settings
from vaejax.laboratory.record import NAME, with_earlier, write_record
from vaejax.laboratory.settings import Laboratory, WhatName
from vaejax.laboratory.summary import means_and_doubts
from vaejax.sharing.manifest import is_shared
from vaejax.training.workdir import load, readable_workdir


def measure_run(
    workdir: Path,
    what: Sequence[WhatName],
    lab: Laboratory,
    samples: int,
    split: str,
    num: int,
    out: Path | None = None,
) -> None:
    """Measures a run, prints a table for each measurement, and keeps them.

    Chunks of examples go to RUN/laboratory as they are measured, so that a command that
    was stopped goes on; the tables go to `out`, or else RUN/laboratory.json, beside
    their pictures.
    """
    workdir = readable_workdir(workdir)
    place = place_of(out, workdir / NAME)
    keep_compiled()
    experiment, state = load(workdir)
    size = min(lab.examples, experiment.dataset.size(split))
    warn_of_passes(samples, size)
    with writing(workdir) as allowed:
        allowed = allowed and not is_shared(workdir)
        folder = workdir / "laboratory" if allowed else None
        entries: dict[str, Any] = {}
        found: dict[str, Numbers] = {}
        for name in dict.fromkeys(what):
            found |= carry_out(
                experiment, state, name, lab, samples, split, num, folder
            )
            settings = measurement_settings(name, lab, samples, num)
            if scores := settings.get("scores"):
                print(f"{name}: {', '.join(scores)} ...", file=sys.stderr)
            values = means_and_doubts(name, found, settings)
            count = len(next(iter(found[name].values())))
            about = {
                "step": int(state.step),
                "split": split,
                "examples": count,
                "settings": settings,
            }
            if factors := experiment.dataset.spec.factors:
                about["factors"] = [factor.name for factor in factors]
            entries[name] = {**about, "values": values}
            print_measurement(name, entries[name], title_of(experiment, split))
            if allowed or out is not None:
                write_record(with_earlier(entries, place), place)
        if not allowed and out is None:
            print(
                f"warning: {workdir} was not written: give --out FILE", file=sys.stderr
            )
            return
        print(f"wrote {place}")
        if folder is not None:
            draw_measurements(experiment, state, place, entries, folder)


def title_of(experiment: Experiment, split: str) -> str:
    """The heading of the tables: preset, data set and split."""
    return f"{experiment.name} on {experiment.dataset.spec.name}, {split}"


def carry_out(
    experiment: Experiment,
    state: TrainState,
    name: WhatName,
    lab: Laboratory,
    samples: int,
    split: str,
    num: int,
    folder: Path | None,
) -> dict[str, Numbers]:
    """One measurement, with its progress on stderr."""
    with progress_of_examples() as tell:
        try:
            return measure(
                experiment,
                state,
                [name],
                lab,
                samples=samples,
                split=split,
                num=num,
                folder=folder,
                tell=tell,
            )
        except NotImplementedError as error:
            raise InputError(
                f"{name} needs the density of q(z | x) at any z, which this posterior "
                f"has not ({error}): leave it out, or let --start be prior"
            ) from error


@contextlib.contextmanager
def progress_of_examples() -> Iterator[Tell]:
    """A bar on a terminal; elsewhere a line for each chunk that took a while."""
    if not sys.stderr.isatty():
        yield lines_of_progress()
        return
    from rich import progress

    from vaejax.runtime.terminal import console

    columns = (
        progress.TextColumn("{task.description} {task.completed}/{task.total}"),
        progress.BarColumn(bar_width=20),
        progress.TimeRemainingColumn(compact=True),
    )
    with progress.Progress(*columns, console=console(stderr=True)) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        yield tell


EVERY = 5.0
"""Seconds between two lines of progress."""


def lines_of_progress() -> Tell:
    """A line on stderr for what was done, every few seconds and at the end."""
    begun: dict[str, float] = {}
    said: dict[str, float] = {}

    def tell(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun.setdefault(name, now)
        if done < total and now - said.get(name, begun[name]) < EVERY:
            return
        said[name] = now
        seconds = now - begun[name]
        line = f"{name}: {done}/{total} examples, {seconds:.0f} s"
        print(line, file=sys.stderr, flush=True)

    return tell


def draw_measurements(
    experiment: Experiment,
    state: TrainState,
    place: Path,
    entries: dict[str, Any],
    folder: Path,
) -> None:
    """Draws the pictures of new entries into the folder."""
    from vaejax import plots

    for name in entries:
        if name in plots.MEASUREMENTS:
            figure = plots.MEASUREMENTS[name](experiment, state, place.parent)
            print(f"wrote {plots.save_figure(figure, folder, name)}")
