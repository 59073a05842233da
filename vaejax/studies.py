"""Studies: seeds x settings of one preset, trained side by side as one program.

Every replica has a workdir of its own and equals, up to rounding, the run that the
same settings give alone. Settings that are numbers vary inside the program; what
shapes it (widths, batch size, names) splits a study into several programs.
"""

import contextlib
import inspect
import itertools
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaejax import parallel
from vaejax.data.preprocess import blank
from vaejax.environment import device_words
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment
from vaejax.interrupt import Interrupts, Stopped
from vaejax.keeper import Keeper
from vaejax.loop import (
    Interval,
    check_patience,
    intervals,
)
from vaejax.replicas import Changes, Group, Replica, book, opened, still_training
from vaejax.run import workdir_of
from vaejax.writer import Progress


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
            check_parallel(experiment)
            folder = workdir_of(workdir) / name_of(changes)
            keeper = stack.enter_context(Keeper(experiment, folder, quiet=True))
            replicas.append(opened(changes, experiment, folder, keeper))
        interrupts = stack.enter_context(Interrupts())
        for members in groups(replicas, traced):
            changes = members[0].changes
            shaping = {n: v for n, v in changes.items() if n not in traced}
            group = Group(members, partial(build, shaping), traced, devices)
            train_group(group, interrupts, quiet)
    return replicas


def check_parallel(experiment: Experiment) -> None:
    """Replicas are split over the devices, not the batches or the state of one."""
    training = experiment.training
    for name, plain in {"parallel": "jit", "fsdp": 1}.items():
        if (value := getattr(training, name)) != plain:
            raise InputError(
                f"--{name} {value} splits one run over devices, a study splits its "
                f"runs over them: use --{name} {plain}"
            )


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


def groups(replicas: Sequence[Replica], traced: Sequence[str]) -> list[list[Replica]]:
    """Replicas that go on as one program: equal in its shape, and at the same step."""
    found: dict[Any, list[Replica]] = {}
    inside = {*traced, "seed"}
    for replica in (replicas[number] for number in still_training(replicas)):
        shaping = [v for n, v in replica.changes.items() if n not in inside]
        found.setdefault((*shaping, replica.step), []).append(replica)
    return list(found.values())


def train_group(group: Group, interrupts: Interrupts, quiet: bool) -> None:
    """Trains replicas side by side to their ends."""
    experiment, replicas = group.experiment, group.replicas
    for replica in replicas:
        replica.keeper.starts(group.start, group.mesh)
    progress = None if quiet else Progress(experiment.steps, group.start)
    if progress:
        progress.say(introduction(group))
    length = experiment.training.log_every or experiment.epoch_steps
    with contextlib.closing(progress) if progress else contextlib.nullcontext():
        for start, stop in intervals(group.start, experiment.steps, length):
            parts = group.advance(start, stop)
            signum = interrupts.signum  # read once: all replicas leave, or none
            for number in still_training(replicas):
                evaluate = partial(group.evaluate, number)
                state, leaves = group.state(number), signum is not None
                book(replicas[number], parts[number], state, evaluate, leaves)
            if progress:
                sound = [p for p, r in zip(parts, replicas, strict=True) if r.sound]
                show(progress, stop, sound)
            if signum is not None and stop < experiment.steps:
                raise Stopped(stopped(replicas, stop, signum), signum)
            if not still_training(replicas):
                break


def show(progress: Progress, stop: int, parts: Sequence[Interval]) -> None:
    """The means over replicas, and the speed of all."""
    terms = parts[0].history if parts else {}
    means = {n: float(np.mean([p.history[n] for p in parts])) for n in terms}
    progress.train(stop, means, sum(part.speed for part in parts))


def introduction(group: Group) -> str:
    """What trains side by side, and where."""
    experiment, count = group.experiment, len(group.replicas)
    inside = ", ".join([*group.traced, "seed"])
    return (
        f"{experiment.name} on {experiment.dataset.spec.name}: {count} replicas "
        f"side by side ({inside}) on {device_words(group.mesh)}; "
        f"writes to {group.replicas[0].folder.parent}"
    )


def stopped(group: Sequence[Replica], step: int, signum: int) -> str:
    """What to say when a signal stopped a study."""
    return (
        f"stopped by {signal.Signals(signum).name} at step {step}, {len(group)} "
        f"replicas saved in {group[0].folder.parent}: the same command goes on from "
        "there"
    )
