"""The replicas of a study, and those of them that train as one program."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax import parallel
from vaejax.data.feed import resident_feed
from vaejax.data.preprocess import blank
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.jsonlines import message_of
from vaejax.training.evaluator import Evaluator
from vaejax.training.loop import (
    Diverged,
    Interval,
    account,
    held_out_split,
    training_key,
)
from vaejax.training.recorder import Keeper
from vaejax.training.workdir import write_json
from vaejax.types import Key

Changes = Mapping[str, Any]
RECORD = "diverged.json"  # in the workdir of a replica that did


@dataclasses.dataclass
class Replica:
    """One run of a study: what it changes, and what has become of it."""

    changes: Changes
    experiment: Experiment
    folder: Path
    keeper: Keeper
    state: TrainState | None
    diverged: str = ""
    ended: bool = False

    @property
    def seed(self) -> int:
        return self.experiment.training.seed

    @property
    def step(self) -> int:
        return 0 if self.state is None else int(self.state.step)

    @property
    def sound(self) -> bool:
        return not self.diverged


def open_replica(
    changes: Changes, experiment: Experiment, folder: Path, keeper: Keeper
) -> Replica:
    """A replica as an earlier call left it, or as new."""
    mesh = parallel.make_mesh(1, 1)
    replica = Replica(changes, experiment, folder, keeper, keeper.restore(mesh))
    replica.diverged = message_of(folder / RECORD)
    if not replica.diverged:
        keeper.begin(replica.step)
        replica.ended = replica.step >= experiment.steps or keeper.exhausted()
    return replica


def book(
    replica: Replica,
    done: Interval,
    state: TrainState,
    evaluate: Callable[[TrainState], dict[str, float]],
    leaves: bool,
) -> None:
    """Logs, evaluates and saves one replica, or records its divergence."""
    try:
        ends = account(
            replica.experiment, replica.keeper, done, state, evaluate, lambda: leaves
        )
        replica.ended = ends and not leaves
    except Diverged as error:
        replica.diverged = str(error)
        write_json(replica.folder / RECORD, {"message": replica.diverged})


def still_training(group: Sequence[Replica]) -> list[int]:
    """The places of replicas that have neither ended nor diverged."""
    return [n for n, each in enumerate(group) if not each.ended and not each.diverged]


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
        self.experiment = replicas[0].experiment
        self.start = min(replicas[n].step for n in still_training(replicas))
        self.mesh = parallel.study_mesh(devices, len(replicas))
        self._build, self._single = build, parallel.make_mesh(1, 1)
        self._numbers = [
            {name: np.float32(replica.changes[name]) for name in traced}
            for replica in replicas
        ]
        self._states, self._own = self._first(), self._stacked(training_key)
        arrays = self.experiment.dataset.split("train")
        batch = self.experiment.training.batch_size
        self._feeds = [resident_feed(arrays, batch, each.seed) for each in replicas]
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

    def advance(self, start: int, stop: int) -> list[Interval]:
        """Trains all replicas; what the steps came to for each of them."""
        began = time.perf_counter()
        xs = np.stack([feed.take(start, stop) for feed in self._feeds], axis=1)
        self._states, *seen = jax.block_until_ready(
            self._advance(self._states, self._resident, xs, self._own)
        )
        examples = (stop - start) * self.experiment.training.batch_size
        speed = examples / (time.perf_counter() - began)
        waits = {*still_training(self.replicas)} - {*self.moving(start)}
        if waits:
            each = enumerate(self.replicas)
            known = [one.state if n in waits else None for n, one in each]
            self._states = self._with(self._states, known)
        history, finite, self._copy = jax.device_get((*seen, self._states))
        return [
            Interval(
                start,
                stop,
                {name: values[:, number] for name, values in history.items()},
                bool(finite[number]),
                speed,
            )
            for number in range(len(self.replicas))
        ]

    def state(self, number: int) -> TrainState:
        """The state of one replica after the last interval."""
        return parallel.place(parallel.row(self._copy, number), self._single)

    def evaluate(self, number: int, state: TrainState) -> dict[str, float]:
        """The metrics of one replica."""
        replica = self.replicas[number].experiment
        return self._evaluator(state, replica, self._numbers[number])
