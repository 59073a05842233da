"""Studies: seeds x settings of one preset, trained side by side as one program.

Every replica has a workdir of its own and equals, up to rounding, the run that the
same settings give alone. Settings that are numbers vary inside the program; what
shapes it (widths, batch size, names) splits a study into several programs.
"""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vaejax import parallel
from vaejax.data.preprocess import blank
from vaejax.data.stored import read_as
from vaejax.errors import InputError
from vaejax.experiment import Experiment
from vaejax.metrics.quantities import quantities_of
from vaejax.runtime.environment import device_words
from vaejax.runtime.jsonlines import parsed
from vaejax.runtime.limits import check_count, check_seed
from vaejax.runtime.lock import held
from vaejax.runtime.preemption import Interrupts
from vaejax.sweeps.replicas import (
    Changes,
    Group,
    Replica,
    open_replica,
    still_training,
)
from vaejax.training.loop import check_patience, open_frozen, run_intervals
from vaejax.training.metric_writer import Progress
from vaejax.training.recorder import Recorder
from vaejax.training.trackers import DEFAULT, tracking_of
from vaejax.training.workdir import make_folder, workdir_of, write_json

PROGRAMS = "programs.json"  # in the folder of a study: which replicas began together


def study(
    make: Callable[..., Experiment],
    workdir: str | Path,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 3,
    devices: int | None = None,
    quiet: bool = False,
    trackers: Sequence[str] = DEFAULT,
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
      trackers: names, as for `train`; each replica is a run of theirs.
      fixed: the other settings of the preset.

    Returns:
      The replicas, seeds fastest. One that diverged says so in `diverged`, and the
      others go on.

    Raises:
      InputError: a setting is unknown or impossible, or a workdir holds another run.
      Stopped: SIGTERM, SIGHUP or Ctrl-C; all have been saved, call again to go on.
    """
    check_count("seeds", seeds, 1)
    values = checked_values(make, vary or {})
    first = fixed.get("seed", inspect.signature(make).parameters["seed"].default)
    check_seed("seed", first)
    check_seed("seed", first + seeds - 1)
    combinations = (
        {**dict(zip(values, each, strict=True)), "seed": seed}
        for each in itertools.product(*values.values())
        for seed in range(first, first + seeds)
    )
    count = seeds * math.prod(map(len, values.values()))
    experiments = made(make, fixed, combinations, count, devices)
    build = partial(built, make, fixed)
    traced = traceable(build, experiments[0][1], values)
    folder = workdir_of(workdir)
    check_no_run(folder)
    with contextlib.ExitStack() as stack:
        if not folder.exists():
            make_folder(folder)
        stack.enter_context(held(folder))
        interrupts = stack.enter_context(Interrupts())
        replicas = []
        for changes, experiment in experiments:
            place = folder / replica_name(changes)
            told = tracking_of(trackers, place, folder.name)
            recorder = stack.enter_context(Recorder(experiment, place, True, told))
            replicas.append(open_replica(changes, experiment, place, recorder))
        for members in programs(replicas, traced, folder):
            changes = members[0].changes
            shaping = {n: v for n, v in changes.items() if n not in traced}
            group = Group(members, partial(build, shaping), traced, devices)
            train_group(group, interrupts, quiet)
    return replicas


def made(
    make: Callable[..., Experiment],
    fixed: Changes,
    combinations: Iterable[Changes],
    count: int,
    devices: int | None,
) -> list[tuple[Changes, Experiment]]:
    """The experiment of every combination; InputError where memory is too small."""
    found = []
    for changes in combinations:
        experiment = make(**{**fixed, **changes})
        if not found:
            mesh = parallel.study_mesh(devices, count)
            shapes = parallel.state_shapes(experiment)
            parallel.check_memory(shapes, mesh, count)
        check_patience(experiment)
        open_frozen(experiment)
        check_parallel(experiment)
        found.append((changes, experiment))
    return found


def check_no_run(folder: Path) -> None:
    """InputError where the folder of a study is that of a run."""
    if (folder / "config.json").exists():
        raise InputError(
            f"{folder} holds a run, and a study keeps each of its runs in a folder of "
            "its own: give another --workdir"
        )


def check_parallel(experiment: Experiment) -> None:
    """Replicas are split over the devices, not the batches or the state of one."""
    training = experiment.training
    for name, plain in {"parallel": "jit", "fsdp": 1}.items():
        if (value := getattr(training, name)) != plain:
            raise InputError(
                f"--{name} {value} splits one run over devices, a study splits its "
                f"runs over them: use --{name} {plain}"
            )


def checked_values(
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


def replica_name(changes: Changes) -> str:
    """As in `beta=4,seed=0`: the folder of a replica."""
    words = [f"{name}={value_text(value)}" for name, value in changes.items()]
    return ",".join(words).replace("/", "-").replace(" ", "")


def value_text(value: Any) -> str:
    """A setting as people write it."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def built(
    make: Callable[..., Experiment], fixed: Changes, shaping: Changes, traced: Changes
) -> Experiment:
    """The experiment of a group, with arrays for the traced settings."""
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


def programs(
    replicas: Sequence[Replica], traced: Sequence[str], folder: Path
) -> list[list[Replica]]:
    """Replicas that train as one program, in which some are still training.

    A program of another size rounds otherwise. So the study's folder records which
    replicas began together, and they go on together, whatever has ended; those that no
    earlier call knew form programs of their own, by the settings that shape one.
    """
    place = folder / PROGRAMS
    begun = begun_together(place)
    number_of = {name: n for n, names in enumerate(begun) for name in names}
    found: dict[Any, list[Replica]] = {}
    for replica in replicas:
        shaping = [v for n, v in replica.changes.items() if n not in {*traced, "seed"}]
        number = number_of.get(replica.folder.name)
        if number is not None or still_training([replica]):
            found.setdefault((*shaping, number), []).append(replica)
    new = [group for key, group in found.items() if key[-1] is None]
    if new:
        names = [[replica.folder.name for replica in group] for group in new]
        write_json(place, [*begun, *names])
    return [group for group in found.values() if still_training(group)]


def begun_together(place: Path) -> list[tuple[str, ...]]:
    """The names that the record of an earlier call holds; none where there is none."""
    try:
        names = parsed(place.read_bytes())
        return list(read_as(tuple[tuple[str, ...], ...], names, PROGRAMS))
    except FileNotFoundError:
        return []
    except ValueError:
        raise InputError(
            f"{place} is damaged: remove it, and replicas form programs once more"
        ) from None


def train_group(group: Group, interrupts: Interrupts, quiet: bool) -> None:
    """Trains replicas side by side to their ends.

    Those that are further than others, after a kill, wait for them.
    """
    experiment = group.experiment
    for number in still_training(group.replicas):
        replica = group.replicas[number]
        replica.recorder.starts(replica.step, group.mesh, group.parameters)
    with contextlib.ExitStack() as ends:
        if not quiet:
            known = quantities_of(experiment)
            progress = Progress(experiment.steps, group.start, known)
            group.progress = ends.enter_context(contextlib.closing(progress))
            progress.say(study_introduction(group))
        run_intervals(group, experiment, group.start, group.evaluate, interrupts)


def study_introduction(group: Group) -> str:
    """The lines about what trains side by side, and where."""
    experiment, count = group.experiment, len(group.replicas)
    inside = ", ".join([*group.traced, "seed"])
    folder = group.replicas[0].folder.parent
    lacking = group.replicas[0].recorder.lacking
    return (
        f"{experiment.name} on {experiment.dataset.spec.name}: {count} replicas "
        f"side by side ({inside}) on {device_words(group.mesh)}; "
        f"writes to {folder}" + (f"\n{lacking}" if lacking else "")
    )
