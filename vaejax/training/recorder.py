"""Records a run: configuration, metrics and checkpoints; and prints its lines."""

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.quantities import quantities_of, telling_terms
from vaejax.runtime import multihost
from vaejax.runtime.environment import environment
from vaejax.runtime.jsonlines import Row, read_rows
from vaejax.runtime.lock import Lock
from vaejax.training import config, metric_writer, parts
from vaejax.training.card import keep_card
from vaejax.training.init_from import InitFrom
from vaejax.training.introduction import (
    advice_words,
    introduction,
    prolonged_words,
    stopped_words,
)
from vaejax.training.skipping import means_of
from vaejax.training.stamp import check_stamp
from vaejax.training.trackers import Tracking
from vaejax.training.workdir import claim, is_claimable, read_config

if TYPE_CHECKING:
    from vaejax.training.checkpoint import Checkpoints


log = logging.getLogger(__name__)


class Recorder:
    """The storage and the voice of one training; without a folder, the voice alone.

    `tracking` follows it beside the folder; `init_from` is what a new run starts from.

    Rows reach `metrics.jsonl` before the checkpoint of their step is begun, and rows
    after the checkpoint that is resumed from are dropped: so the file of a run that was
    killed and resumed equals that of a run that was not.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path | None,
        quiet: bool = False,
        tracking: Tracking | None = None,
        init_from: InitFrom | None = None,
    ) -> None:
        self._experiment, self._folder, self._quiet = experiment, folder, quiet
        self._init_from = init_from
        self._tracking = tracking or Tracking({})
        self._checkpoints: dict[str, Checkpoints] = {}
        self._quantities = quantities_of(experiment)
        self._writers: list[metric_writer.Writer] = []
        self._held_out: list[tuple[int, float]] = []
        self._rows: list[Row] = []
        self._notes: list[str] = []
        self._progress: metric_writer.Progress | None = None
        self._timing: metric_writer.Writer | None = None
        self._began = time.perf_counter()
        self._lock: Lock | None = None
        if folder is not None:
            check_stamp(experiment)
            known = config.config_of(experiment)
            if init_from is not None:
                known |= {"given": init_from.given}
                init_from.read_together(folder)
            multihost.same(known, config.host_differences)
            multihost.in_turn(lambda: self._claim(folder))

    def _claim(self, folder: Path) -> None:
        """Locks the folder, on the first host, before anything in it is looked at."""
        if multihost.first() and is_claimable(folder):
            self._lock = Lock(folder)
        try:
            before = claim(folder, self._experiment, self._init_from)
        except BaseException:
            self._release()
            raise
        if before is not None and multihost.first():
            self._notes.append(prolonged_words(self._experiment, before))

    def _keep_card(self) -> None:
        if self._folder is not None and multihost.first():
            keep_card(self._folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as closing:  # all, even where one cannot be closed
            closing.callback(self._release)
            closing.callback(lambda: self._tracking.close(self._folder))
            closing.callback(self._keep_card)
            for checkpoints in self._checkpoints.values():
                closing.callback(checkpoints.close)
            for rows in (*self._writers, *([self._timing] if self._timing else [])):
                closing.callback(rows.close)
            if self._progress:
                closing.callback(self._progress.close)

    def _open(self, name: str) -> "Checkpoints | None":
        """The checkpoints `name` of the folder, opened when they are first needed."""
        if self._folder is None:
            return None
        if name not in self._checkpoints:
            from vaejax.training.checkpoint import Checkpoints  # loads Orbax

            keep = 1 if name == "best" else 3
            self._checkpoints[name] = Checkpoints(self._folder / name, keep)
        return self._checkpoints[name]

    def _read(self, name: str, mesh: Mesh) -> TrainState | None:
        """The newest sound state of the checkpoints `name`, where there are any."""
        if self._folder is None or not (self._folder / name).is_dir():
            return None
        checkpoints = self._open(name)
        assert checkpoints is not None
        return checkpoints.restore(parallel.abstract_state(self._experiment, mesh))

    def restore(self, mesh: Mesh) -> TrainState | None:
        """The state to go on from."""
        return self._read("checkpoints", mesh)

    def first(self, state: TrainState) -> TrainState:
        """The state before the first step, from a new one: with the parameters that it
        takes from elsewhere, kept at once, so that they are not needed again.
        """
        source = self._init_from
        if source is None:
            return state
        if (recorded := self._origin()) is not None:
            source.check_same(recorded)
        state = source.replaced(state)
        self._notes.append(source.words(state))
        self.save(0, state)
        return state

    def _origin(self) -> config.Origin | None:
        """The record of what the run started from."""
        if self._folder is not None:
            return config.origin_in(read_config(self._folder))
        return self._init_from.origin if self._init_from else None

    def best(self, mesh: Mesh) -> TrainState | None:
        """The best state on the validation split, where training chooses by it.

        None where it is damaged, which is said: the last state stands for it.
        """
        if not self._experiment.training.patience:
            return None
        try:
            return self._read("best", mesh)
        except InputError as error:  # no sound one
            log.warning("%s; the state after the last step is taken instead", error)
            return None

    def begin(self, step: int) -> None:
        """Opens what is written to, at the step where training starts or goes on."""
        folder = self._folder
        if folder is not None:
            multihost.in_turn(lambda: self._open_rows(folder, step))
        if not self._quiet and multihost.first():
            steps = self._experiment.steps
            self._progress = metric_writer.Progress(steps, step, self._quantities)

    def _open_rows(self, folder: Path, step: int) -> None:
        """Opens the files of metrics, which the first host writes and others read."""
        path = folder / "metrics.jsonl"
        if multihost.first():
            self._writers = [metric_writer.rows_writer(path, step)]
            self._timing = metric_writer.rows_writer(folder / "timing.jsonl", step)
        self._rows = [row for row in read_rows(path) if row["step"] <= step]
        self._held_out = metric_writer.selections_of(self._rows)

    def starts(self, step: int, mesh: Mesh, parameters: int) -> None:
        """Records what the steps after `step` are computed with."""
        if not multihost.first():
            return
        epochs = self._experiment.training.epochs
        found = {**environment(mesh), "parameters": parameters, "epochs": epochs}
        if step == 0 and (origin := self._origin()):
            found |= origin.row
        if self._folder is not None:
            rows = metric_writer.rows_writer(self._folder / "environment.jsonl", step)
            rows.write(step, "train", found)
            rows.close()
        if self._tracking.wanted:
            known = config.config_of(self._experiment)
            about = config.settings_and_facts(known, found)
            for line in self._tracking.begin(self._folder, step, about, self._rows):
                self._say(line)

    def introduce(self, state: TrainState, mesh: Mesh) -> None:
        """Says what trains."""
        given = self._experiment, self._folder, int(state.step), state, mesh
        for line in introduction(*given, self._notes, self.exhausted()):
            self._say(line)
        if self.lacking:
            self._say(self.lacking)

    @property
    def lacking(self) -> str:
        """The reason why TensorBoard gets nothing, where it should."""
        return self._tracking.lacking

    def _say(self, line: str) -> None:
        if self._progress:
            self._progress.say(line)

    def _write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        for each in (*self._writers, self._tracking):
            each.write(step, split, metrics)

    def report(
        self,
        step: int,
        history: Mapping[str, np.ndarray],
        speed: float,
        waiting: float = 0.0,
    ) -> None:
        """The means of the steps since the last report, their speed in examples/s, and
        the share of time that was spent waiting for data.
        """
        means = means_of(history)
        self._write(step, "train", means)
        if self._timing:
            seconds = time.perf_counter() - self._began
            timing = {"seconds": seconds, "examples_per_s": speed, "waiting": waiting}
            self._timing.write(step, "train", timing)
        if self._progress:
            self._progress.train(step, means, speed, waiting)

    def evaluated(
        self, step: int, split: str, values: dict[str, float], state: TrainState
    ) -> None:
        """An evaluation during training; the best state so far is kept."""
        selection = self._experiment.selection(values)
        self._write(step, split, values | {"selection": selection})
        terms = "  ".join(telling_terms(values, self._quantities))
        self._say(f"step {step}  {split}: {terms}")
        better = all(selection < earlier for _, earlier in self._held_out)
        self._held_out.append((step, selection))
        best = self._open("best") if self._experiment.training.patience else None
        if better and best is not None:
            best.save(step, state)

    def exhausted(self) -> bool:
        """Whether `patience` evaluations in a row were no better than the best."""
        run = self._experiment
        start = metric_writer.warm_up_steps(run.arguments, run.epoch_steps)
        past = metric_writer.since_best(self._held_out, start)
        return 0 < run.training.patience <= past

    def save(self, step: int, state: TrainState) -> None:
        """Begins a checkpoint; should the machine die, its rows are there, too."""
        for each in (*self._writers, self._tracking):
            each.sync()
        checkpoints = self._open("checkpoints")
        if checkpoints is not None:
            checkpoints.save(step, state)

    def keep_part(self, start: int, step: int, terms: Mapping[str, np.ndarray]) -> None:
        """Keeps the terms of an interval that is cut at `step`, for the next call."""
        if self._folder is not None:
            parts.write_part(self._folder, parts.Part(start, step, terms))

    def part(self, step: int) -> parts.Part | None:
        """The interval that was cut at the step where this training goes on."""
        return None if self._folder is None else parts.read_part(self._folder, step)

    def stopped(self, step: int, signum: int) -> str:
        """The message when a signal stopped the run."""
        return stopped_words(self._folder, step, signum)

    def advice(self) -> str:
        """Advice for a training that diverged."""
        saved = self._checkpoints.get("checkpoints")
        return advice_words(self._folder, saved.steps() if saved else [])
