"""The replicas of a study, and those of them that train as one program."""

import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax import parallel
from vaejax.data.feed import ordered_feed
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.jsonlines import message_of
from vaejax.training.advance import training_key
from vaejax.training.evaluator import Evaluator
from vaejax.training.hooks import held_out_split
from vaejax.training.introduction import count_parameters
from vaejax.training.metric_writer import Progress
from vaejax.training.recorder import Recorder
from vaejax.training.run import Diverged, Interval, Run
from vaejax.training.workdir import DIVERGENCE, write_json
from vaejax.types import Key

Changes = Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class Replica(Run):
    """One run of a study: what it changes, and what has become of it."""

    changes: Changes
    folder: Path
    state: TrainState | None
    """As it was when the study went on, None where it began."""
    diverged: str = ""

    @property
    def seed(self) -> int:
        return self.experiment.training.seed

    @property
    def step(self) -> int:
        return 0 if self.state is None else int(self.state.step)

    def diverge(self, error: Diverged) -> None:
        """Records the divergence: the other replicas go on."""
        self.diverged = str(error)
        write_json(self.folder / DIVERGENCE, {"message": self.diverged})


def open_replica(
    changes: Changes, experiment: Experiment, folder: Path, recorder: Recorder
) -> Replica:
    """A replica as an earlier call left it, or as new."""
    mesh = parallel.make_mesh(1, 1)
    replica = Replica(
        experiment=experiment,
        recorder=recorder,
        changes=changes,
        folder=folder,
        state=recorder.restore(mesh),
    )
    replica.diverged = message_of(folder / DIVERGENCE)
    if not replica.diverged:
        recorder.begin(replica.step)
        replica.ended = replica.step >= experiment.steps or recorder.exhausted()
    return replica


def still_training(group: Sequence[Replica]) -> list[int]:
    """The places of replicas that have neither ended nor diverged."""
    return [n for n, each in enumerate(group) if not each.ended and not each.diverged]


def check_same_labels(replicas: Sequence[Replica]) -> None:
    """InputError where replicas of one program, which has one set of data, keep the
    labels of other examples each.
    """
    if not replicas[0].experiment.dataset.spec.unlabelled:
        return
    first, *others = (each.experiment.dataset.split("train")["y"] for each in replicas)
    if not all(np.array_equal(first, y) for y in others):
        raise InputError(
            "--labels-by-seed gives other labels to each seed, and a study has one set "
            "of them: leave it out, or train the seeds in turn"
        )


class Group:
    """Replicas that train side by side: one program, and one state stacked over them.

    `traced` are the settings that are the program's arguments; `build` makes the
    experiment of any replica from them.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        build: parallel.Build,
        traced: Sequence[str],
        devices: int | None,
    ) -> None:
        self.replicas, self.traced = replicas, traced
        self.progress: Progress | None = None
        self.experiment = replicas[0].experiment
        self.start = min(replicas[n].step for n in still_training(replicas))
        self.mesh = parallel.study_mesh(devices, len(replicas))
        self._build, self._single = build, parallel.make_mesh(1, 1)
        self._numbers = [
            {name: np.float32(replica.changes[name]) for name in traced}
            for replica in replicas
        ]
        self._states, self._own = self._first(), self._stacked(training_key)
        check_same_labels(replicas)
        arrays = self.experiment.dataset.split("train")
        batch = self.experiment.training.batch_size
        size, order = len(arrays["x"]), self.experiment.order
        self._feeds = [
            ordered_feed(arrays, order(size, batch, each.seed)) for each in replicas
        ]
        self._resident = parallel.place(self._feeds[0].resident, self.mesh)
        self._advance = parallel.compile_study(build, self._feeds[0], self.mesh)
        self._evaluator = Evaluator(
            self.experiment,
            held_out_split(self.experiment),
            0,
            self._single,
            batch,
            build,
        )

    def _stacked(self, key_of: Callable[[int], Key]) -> parallel.Own:
        """Key (from its seed) and settings of each replica."""
        each = zip(self.replicas, self._numbers, strict=True)
        return parallel.shard_replicas(
            [parallel.Own(key_of(replica.seed), mine) for replica, mine in each],
            self.mesh,
        )

    def _first(self) -> TrainState:
        """The states as they were restored, or before the first step."""
        known = [each.state for each in self.replicas]
        begun = [state for state in known if state is not None]
        if len(begun) == len(known):
            return parallel.shard_replicas(begun, self.mesh)
        raw = parallel.place(blank(self.experiment.dataset.spec), self.mesh)
        init = parallel.compile_study_init(self._build, self.mesh)
        states = init(self._stacked(jax.random.key), raw)
        return self._with(states, known) if begun else states

    def _with(
        self, stacked: TrainState, known: Sequence[TrainState | None]
    ) -> TrainState:
        """The stacked states, with those in their places that are known."""
        whole = jax.device_get(stacked)
        rows = [
            parallel.row(whole, number) if state is None else jax.device_get(state)
            for number, state in enumerate(known)
        ]
        return parallel.shard_replicas(rows, self.mesh)

    def moving(self, start: int) -> list[int]:
        """The places of replicas that train from step `start` on.

        Others are there because the program's size is what it was: they have ended, or
        they wait at a later step for the rest to reach it.
        """
        training = still_training(self.replicas)
        return [n for n in training if self.replicas[n].step <= start]

    @property
    def parameters(self) -> int:
        """Numbers that the players of one replica move."""
        return count_parameters(self._states) // len(self.replicas)

    @property
    def training(self) -> bool:
        """Whether any has steps left to take."""
        return bool(still_training(self.replicas))

    def stopped(self, step: int, signum: int) -> str:
        """The message when a signal stopped them."""
        return (
            f"stopped by {signal.Signals(signum).name} at step {step}, "
            f"{len(self.replicas)} replicas saved in {self.replicas[0].folder.parent}: "
            "the same command goes on from there"
        )

    def advance(self, start: int, stop: int) -> Iterator[tuple[Run, Interval]]:
        """Takes the steps `start` + 1 to `stop`: each replica that had them to take,
        and what they came to.
        """
        moving = self.moving(start)
        began = time.perf_counter()
        xs = np.stack([feed.take(start, stop) for feed in self._feeds], axis=1)
        self._states, *seen = jax.block_until_ready(
            self._advance(self._states, self._resident, xs, self._own)
        )
        examples = (stop - start) * self.experiment.training.batch_size
        speed = examples / (time.perf_counter() - began)
        waits = {*still_training(self.replicas)} - {*moving}
        if waits:
            each = enumerate(self.replicas)
            known = [one.state if n in waits else None for n, one in each]
            self._states = self._with(self._states, known)
        history, finite, states = jax.device_get((*seen, self._states))
        for number in moving:
            terms = {name: values[:, number] for name, values in history.items()}
            state = parallel.place(parallel.row(states, number), self._single)
            sound = bool(finite[number])
            yield (
                self.replicas[number],
                Interval(start, stop, state, terms, sound, speed),
            )
        if self.progress:
            sound = [number for number in moving if not self.replicas[number].diverged]
            means = {n: float(v[:, sound].mean()) for n, v in history.items() if sound}
            self.progress.train(stop, means, speed * len(sound))

    def evaluate(self, run: Run, interval: Interval) -> dict[str, float]:
        """The metrics of one replica."""
        number = next(n for n, each in enumerate(self.replicas) if each is run)
        settings = self._numbers[number]
        return self._evaluator(interval.state, run.experiment, settings)
