"""The training loop: all moves of an experiment, and what is written on the way."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import Shuffled
from vaejax.data.preprocess import blank
from vaejax.data.streaming import feed_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.purposes import OfRun
from vaejax.runtime import multihost
from vaejax.runtime.preemption import Interrupts, Stopped
from vaejax.training.advance import Stepper
from vaejax.training.evaluator import Evaluator
from vaejax.training.profiling import Advance, Profile
from vaejax.training.recorder import Keeper
from vaejax.training.workdir import workdir_of
from vaejax.types import Key


class Diverged(RuntimeError):
    """A logged term was not finite: the message says where, and what to go back to."""


class Interval(NamedTuple):
    """The outcome of steps `start + 1` to `stop` of one run."""

    start: int
    stop: int
    history: dict[str, np.ndarray]
    """Terms `[steps]`."""
    finite: bool
    """Whether all parameters are."""
    speed: float
    """Examples/s."""
    waiting: float = 0.0
    """Share of the time for which no step ran for want of data."""


def train(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    devices: int | None = None,
    quiet: bool = False,
    profile: Profile | None = None,
    workers: int = 0,
) -> TrainState:
    """Trains to the end, resuming from what the workdir holds.

    Args:
      experiment: what to train; made by a preset where there is a workdir.
      workdir: where configuration, metrics and checkpoints are kept; None keeps
        nothing. The same call again resumes, or returns the finished state.
      devices: devices of each host to use; None is all.
      quiet: no progress on stderr.
      profile: steps of which a trace is written.
      workers: processes of each host that decode data that streams; 0 is threads.

    Returns:
      The state after the last step; with `patience` and a workdir, the best on the
      validation split.

    Raises:
      InputError: the workdir holds another run, the batch does not split over the
        devices, or the parameters do not fit the memory.
      Diverged: a term or parameter was not finite.
      Stopped: SIGTERM, SIGHUP or Ctrl-C; the state has been saved, call again to go on.
    """
    check_patience(experiment)
    training = experiment.training
    mesh = parallel.make_mesh(devices, training.batch_size, training.fsdp)
    parallel.check_memory(experiment, mesh)
    folder = None if workdir is None else workdir_of(workdir)
    with Interrupts() as interrupts, Keeper(experiment, folder, quiet) as keeper:
        state = keeper.restore(mesh)
        if state is None:
            state = first_state(experiment, mesh)
        step = int(state.step)
        keeper.begin(step)
        keeper.introduce(state, mesh)
        if step < experiment.steps and not keeper.exhausted():
            keeper.starts(step, mesh)
            state = run_intervals(
                experiment, mesh, state, keeper, interrupts, profile, workers
            )
        return keeper.best(mesh) or state


def check_patience(experiment: Experiment) -> None:
    """Stopping early chooses by validation data, never by the test split."""
    splits = experiment.dataset.spec.sizes
    if experiment.training.patience and "validation" not in splits:
        raise InputError(
            "--patience needs validation data: hold it out by --validation"
        )


def first_state(experiment: Experiment, mesh: Mesh) -> TrainState:
    """The state before the first step."""
    raw = parallel.place(blank(experiment.dataset.spec), mesh)
    key = jax.random.key(experiment.training.seed)
    return parallel.compile_init(experiment, mesh)(key, raw)


def run_intervals(
    experiment: Experiment,
    mesh: Mesh,
    state: TrainState,
    keeper: Keeper,
    interrupts: Interrupts,
    profile: Profile | None = None,
    workers: int = 0,
) -> TrainState:
    """All intervals from the state's step to the end, or to an early stop."""
    with contextlib.ExitStack() as ends, contextlib.ExitStack() as trace:
        stepper = training_steps(experiment, mesh, workers, ends)
        advance: Advance = stepper
        if profile:
            profile.check(int(state.step), experiment.steps)
            advance = profile.traced(advance, trace)
        return all_intervals(
            experiment, mesh, state, keeper, interrupts, advance, stepper
        )


def training_steps(
    experiment: Experiment, mesh: Mesh, workers: int, ends: contextlib.ExitStack
) -> Stepper:
    """The steps of training; `ends` closes what feeds them."""
    settings, dataset = experiment.training, experiment.dataset
    size, seed = dataset.spec.sizes["train"], settings.seed
    order = Shuffled(size, settings.batch_size, seed)
    steps = experiment.steps
    feed = feed_of(dataset, "train", order, steps, mesh, workers, augment=seed)
    ends.callback(feed.close)
    return Stepper(experiment, feed, mesh, training_key(seed))


def all_intervals(
    experiment: Experiment,
    mesh: Mesh,
    state: TrainState,
    keeper: Keeper,
    interrupts: Interrupts,
    advance: Advance,
    stepper: Stepper,
) -> TrainState:
    """Advances, and does what is due after each interval."""
    settings, epoch = experiment.training, experiment.epoch_steps
    evaluator = held_out_evaluator(experiment, mesh)
    length = settings.log_every or epoch
    for start, stop in intervals(int(state.step), experiment.steps, length):
        began, waited = time.perf_counter(), stepper.waited
        with first_nan_named(start, stop, keeper):
            state, metrics, finite = advance(state, start, stop)
        seconds = time.perf_counter() - began
        done = Interval(
            start,
            stop,
            jax.device_get(metrics),
            bool(finite),
            (stop - start) * settings.batch_size / seconds,
            (stepper.waited - waited) / seconds,
        )
        came = partial(multihost.came, interrupts)
        ends = account(experiment, keeper, done, state, evaluator, came)
        if ends and interrupts.signum is not None and stop < experiment.steps:
            raise Stopped(keeper.stopped(stop, interrupts.signum), interrupts.signum)
        if ends:
            break
    return state


def account(
    experiment: Experiment,
    keeper: Keeper,
    done: Interval,
    state: TrainState,
    evaluate: Callable[[TrainState], dict[str, float]],
    leaves: Callable[[], bool],
) -> bool:
    """Reports, evaluates and saves what is due; whether this was the last interval.

    If `leaves()`, the state is saved in any case. Raises Diverged before anything is
    written.
    """
    start, stop = done.start, done.stop
    check_finite(done.history, done.finite, start, stop, keeper)
    keeper.report(stop, done.history, done.speed, done.waiting)
    last = stop == experiment.steps
    training = experiment.training
    if last or passes(start, stop, training.evaluate_every * experiment.epoch_steps):
        keeper.evaluated(stop, held_out_split(experiment), evaluate(state), state)
    ends = last or leaves() or keeper.exhausted()
    if ends or passes(start, stop, training.checkpoint_every):
        keeper.save(stop, state)
    return ends


def training_key(seed: int) -> Key:
    """The root of all noise in training."""
    return jax.random.fold_in(jax.random.key(seed), OfRun.TRAINING)


def held_out_evaluator(experiment: Experiment, mesh: Mesh) -> Evaluator:
    """The metrics over the validation split, or the test split where there is none."""
    batch = experiment.training.batch_size
    return Evaluator(experiment, held_out_split(experiment), 0, mesh, batch)


def held_out_split(experiment: Experiment) -> str:
    """The split that training reports on."""
    splits = experiment.dataset.spec.sizes
    return "validation" if "validation" in splits else "test"


def intervals(step: int, total: int, length: int) -> Iterator[tuple[int, int]]:
    """(start, stop) between multiples of `length`, from `step` to `total`."""
    while step < total:
        stop = min(total, (step // length + 1) * length)
        yield step, stop
        step = stop


def passes(start: int, stop: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (start, stop]."""
    return stop // every > start // every


@contextlib.contextmanager
def first_nan_named(start: int, stop: int, keeper: Keeper) -> Iterator[None]:
    """Turns the error of a watched step into Diverged."""
    try:
        yield
    except FloatingPointError as error:
        found = " ".join(str(error).split())
        raise divergence_message(found, start, stop, keeper) from error


def divergence_message(found: str, start: int, stop: int, keeper: Keeper) -> Diverged:
    """The message of a divergence: the term, the steps, and what to do."""
    return Diverged(f"{found} (steps {start + 1} to {stop}). {keeper.advice()}")


def check_finite(
    history: dict[str, np.ndarray], finite: bool, start: int, stop: int, keeper: Keeper
) -> None:
    """Raises Diverged at the first step of the interval with a term not finite."""
    for name, values in history.items():
        bad = ~np.isfinite(values)
        if bad.any():
            step = start + int(bad.argmax()) + 1
            found = f"{name} is {values[bad.argmax()]} at step {step}"
            raise divergence_message(found, start, stop, keeper)
    if not finite:
        found = f"a parameter is not finite after step {stop}"
        raise divergence_message(found, start, stop, keeper)
