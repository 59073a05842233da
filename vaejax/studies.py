"""Studies: seeds x settings of one preset, trained side by side as one program.

Every replica has a workdir of its own and equals, up to rounding, the run that the
same settings give alone. Settings that are numbers vary inside the program; what
shapes it (widths, batch size, names) splits a study into several programs.
"""

import contextlib
import dataclasses
import inspect
import itertools
import json
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import resident_feed
from vaejax.data.preprocess import blank
from vaejax.errors import InputError, require
from vaejax.evaluation import Evaluator
from vaejax.experiment import Experiment, TrainState
from vaejax.interrupt import Interrupts, Stopped
from vaejax.keeper import Keeper, device_words
from vaejax.loop import (
    Diverged,
    Interval,
    account,
    check_patience,
    held_out,
    intervals,
    training_key,
)
from vaejax.run import write_json
from vaejax.writer import Progress

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


def study(
    make: Callable[..., Experiment],
    workdir: str | Path,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 3,
    devices: int | None = None,
    quiet: bool = False,
    **fixed: Any,
) -> list[Replica]:
    """Trains all combinations of settings, each from `seeds` seeds; resumes.

    Args:
      make: a preset.
      workdir: folder of the study; each replica's is inside, named after its changes.
      vary: the values of each setting that varies.
      seeds: how many; they count up from the setting `seed`.
      devices: local devices at most; as many are used as divide the replicas.
      quiet: no progress on stderr.
      fixed: the other settings of the preset.

    Returns:
      The replicas, seeds fastest. One that diverged says so in `diverged`, and the
      others go on.

    Raises:
      InputError: a setting is unknown or impossible, or a workdir holds another run.
      Stopped: SIGTERM or Ctrl-C; all have been saved, call again to go on.
    """
    require(seeds >= 1, "seeds", seeds, "at least 1")
    values = checked(make, vary or {})
    first = fixed.get("seed", inspect.signature(make).parameters["seed"].default)
    counted = {**values, "seed": range(first, first + seeds)}
    combinations = [
        dict(zip(counted, each, strict=True))
        for each in itertools.product(*counted.values())
    ]
    experiments = [make(**{**fixed, **changes}) for changes in combinations]
    build = partial(built, make, fixed)
    traced = traceable(build, experiments[0], values)
    with contextlib.ExitStack() as stack:
        replicas = []
        for changes, experiment in zip(combinations, experiments, strict=True):
            check_patience(experiment)
            folder = Path(workdir) / name_of(changes)
            keeper = stack.enter_context(Keeper(experiment, folder, quiet=True))
            replicas.append(opened(changes, experiment, folder, keeper))
        interrupts = stack.enter_context(Interrupts())
        for group in groups(replicas, traced):
            shaping = {n: v for n, v in group[0].changes.items() if n not in traced}
            train_group(
                group, partial(build, shaping), traced, devices, interrupts, quiet
            )
    return replicas


def checked(
    make: Callable[..., Any], vary: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """The values, as floats where the setting is one; InputError where one is twice."""
    known, found = inspect.signature(make).parameters, {}
    for name, values in vary.items():
        if name == "seed":
            raise InputError("a study counts its seeds: give their number, --seeds")
        number = name in known and known[name].annotation is float
        found[name] = [float(v) for v in values] if number else list(values)
        if not values or len(set(found[name])) < len(values):
            raise InputError(f"{name} varies over {list(values)}: give each value once")
    return found


def name_of(changes: Changes) -> str:
    """As in `beta=4,seed=0`: the folder of a replica."""
    words = [f"{name}={value_of(value)}" for name, value in changes.items()]
    return ",".join(words).replace("/", "-").replace(" ", "")


def value_of(value: Any) -> str:
    """A setting as people write it."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def built(
    make: Callable[..., Experiment], fixed: Changes, shaping: Changes, traced: Changes
) -> Experiment:
    """The experiment of a group, with arrays in the place of the traced settings."""
    return make(**{**fixed, **shaping, **traced})


def traceable(
    build: Callable[..., Experiment], experiment: Experiment, values: Changes
) -> list[str]:
    """The settings that can vary inside one program: numbers that decide nothing."""
    raw = blank(experiment.dataset.spec, experiment.training.batch_size)
    now = {name: experiment.arguments[name] for name in values}
    numbers = [n for n, v in now.items() if isinstance(v, float) and len(values[n]) > 1]
    return [
        name
        for name in numbers
        if parallel.can_trace(partial(build, now), name, now[name], raw)
    ]


def opened(
    changes: Changes, experiment: Experiment, folder: Path, keeper: Keeper
) -> Replica:
    """A replica as an earlier call left it, or as new."""
    mesh = parallel.make_mesh(1, 1)
    replica = Replica(changes, experiment, folder, keeper, keeper.restore(mesh))
    if (folder / RECORD).exists():
        replica.diverged = json.loads((folder / RECORD).read_text("utf-8"))["message"]
    else:
        keeper.begin(replica.step)
        replica.ended = replica.step >= experiment.steps or keeper.exhausted()
    return replica


def groups(replicas: Sequence[Replica], traced: Sequence[str]) -> list[list[Replica]]:
    """Replicas that go on as one program: equal in its shape, and at the same step."""
    found: dict[Any, list[Replica]] = {}
    inside = {*traced, "seed"}
    for replica in (replicas[number] for number in still_training(replicas)):
        shaping = [v for n, v in replica.changes.items() if n not in inside]
        found.setdefault((*shaping, replica.step), []).append(replica)
    return list(found.values())


def train_group(
    group: Sequence[Replica],
    build: parallel.Build,
    traced: Sequence[str],
    devices: int | None,
    interrupts: Interrupts,
    quiet: bool,
) -> None:
    """Trains replicas side by side to their ends."""
    experiment, start = group[0].experiment, group[0].step
    settings, epoch = experiment.training, experiment.epoch_steps
    mesh, single = parallel.study_mesh(devices, len(group)), parallel.make_mesh(1, 1)
    arrays, batch = experiment.dataset.split("train"), settings.batch_size
    feeds = [resident_feed(arrays, batch, replica.seed) for replica in group]
    resident = parallel.place(feeds[0].resident, mesh)
    numbers = [
        {name: np.float32(replica.changes[name]) for name in traced}
        for replica in group
    ]
    states, own = stacked(group, build, numbers, mesh)
    advance = parallel.compile_study(build, feeds[0], mesh)
    evaluator = Evaluator(experiment, held_out(experiment), 0, single, batch, build)
    progress = None if quiet else Progress(experiment.steps, start)
    if progress:
        progress.say(introduction(group, traced, mesh))
    with contextlib.closing(progress) if progress else contextlib.nullcontext():
        length = settings.log_every or epoch
        for begin, stop in intervals(start, experiment.steps, length):
            began = time.perf_counter()
            xs = np.stack([feed.take(begin, stop) for feed in feeds], axis=1)
            states, metrics, finite = jax.block_until_ready(
                advance(states, resident, xs, own)
            )
            speed = (stop - begin) * batch / (time.perf_counter() - began)
            history, finite, now = jax.device_get((metrics, finite, states))
            signum = interrupts.signum  # read once: all replicas leave, or none
            for number in still_training(group):
                mine = {name: values[:, number] for name, values in history.items()}
                done = Interval(begin, stop, mine, bool(finite[number]), speed)
                state = parallel.place(parallel.row(now, number), single)
                evaluate = partial(
                    evaluator,
                    replica=group[number].experiment,
                    settings=numbers[number],
                )
                book(group[number], done, state, evaluate, signum is not None)
            sound = [n for n, replica in enumerate(group) if not replica.diverged]
            if progress and sound:
                means = {n: float(v[:, sound].mean()) for n, v in history.items()}
                progress.train(stop, means, speed * len(group))
            if signum is not None and stop < experiment.steps:
                raise Stopped(stopped(group, stop, signum), signum)
            if not still_training(group):
                break


def still_training(group: Sequence[Replica]) -> list[int]:
    """The places of replicas that have neither ended nor diverged."""
    return [n for n, each in enumerate(group) if not each.ended and not each.diverged]


def book(
    replica: Replica,
    done: Interval,
    state: TrainState,
    evaluate: Callable[[TrainState], dict[str, float]],
    leaves: bool,
) -> None:
    """What is due for one replica after an interval; a divergence is recorded."""
    try:
        ends = account(
            replica.experiment, replica.keeper, done, state, evaluate, lambda: leaves
        )
        replica.ended = ends and not leaves
    except Diverged as error:
        replica.diverged = str(error)
        write_json(replica.folder / RECORD, {"message": replica.diverged})


def stacked(
    group: Sequence[Replica],
    build: parallel.Build,
    numbers: Sequence[dict[str, np.float32]],
    mesh: Mesh,
) -> tuple[TrainState, parallel.Own]:
    """The states of all replicas as they begin, and what each has of its own."""

    def own(key_of: Callable[[int], Any]) -> parallel.Own:
        each = zip(group, numbers, strict=True)
        return parallel.spread(
            [parallel.Own(key_of(replica.seed), mine) for replica, mine in each], mesh
        )

    states = [replica.state for replica in group if replica.state is not None]
    if states:
        return parallel.spread(states, mesh), own(training_key)
    raw = parallel.place(blank(group[0].experiment.dataset.spec), mesh)
    init = parallel.compile_study_init(build, mesh)
    return init(own(jax.random.key), raw), own(training_key)


def introduction(group: Sequence[Replica], traced: Sequence[str], mesh: Mesh) -> str:
    """What trains side by side, and where."""
    experiment = group[0].experiment
    inside = ", ".join([*traced, "seed"])
    return (
        f"{experiment.name} on {experiment.dataset.spec.name}: {len(group)} replicas "
        f"side by side ({inside}) on {device_words(mesh)}; "
        f"writes to {group[0].folder.parent}"
    )


def stopped(group: Sequence[Replica], step: int, signum: int) -> str:
    """What to say when a signal stopped a study."""
    return (
        f"stopped by {signal.Signals(signum).name} at step {step}, {len(group)} "
        f"replicas saved in {group[0].folder.parent}: the same command goes on from "
        "there"
    )


class Row(NamedTuple):
    """One combination of settings: how its seeds came out."""

    settings: Changes
    replicas: int
    diverged: int
    mean: dict[str, float]
    deviation: dict[str, float]
    """Over replicas, of a sample (n - 1); without entries where there is one."""


def summarize(
    replicas: Sequence[Replica], values: Sequence[Changes | None]
) -> list[Row]:
    """A row for each combination of settings, from each replica's numbers.

    `values` are None where a replica diverged; such replicas are counted and left out.
    """
    found: dict[Any, list[tuple[Replica, Changes | None]]] = {}
    for replica, numbers in zip(replicas, values, strict=True):
        settings = {n: v for n, v in replica.changes.items() if n != "seed"}
        found.setdefault(tuple(settings.items()), []).append((replica, numbers))
    rows = []
    for settings, each in found.items():
        sound = [numbers for _, numbers in each if numbers is not None]
        columns = {
            name: [numbers[name] for numbers in sound]
            for name, value in (sound[0] if sound else {}).items()
            if isinstance(value, float | int)
        }
        mean = {name: statistics.fmean(column) for name, column in columns.items()}
        many = columns if len(sound) > 1 else {}
        deviation = {name: statistics.stdev(column) for name, column in many.items()}
        lost = len(each) - len(sound)
        rows.append(Row(dict(settings), len(each), lost, mean, deviation))
    return rows
