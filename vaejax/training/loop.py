"""The training loop: intervals of steps, and the hooks that are called after each."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import jax
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import Feed
from vaejax.data.preprocess import blank
from vaejax.data.streaming import feed_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.preemption import Interrupts, Stopped
from vaejax.training.advance import Stepper
from vaejax.training.evaluator import Evaluator
from vaejax.training.hooks import Evaluate, Preemption, held_out_split, standard_hooks
from vaejax.training.init_from import init_source
from vaejax.training.introduction import count_parameters
from vaejax.training.profiling import Profile, Trace
from vaejax.training.recorder import Recorder
from vaejax.training.run import Diverged, Interval, Run
from vaejax.training.trackers import DEFAULT, Named, tracking_of
from vaejax.training.workdir import workdir_of
from vaejax.types import Batch, Key


def train(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    devices: int | None = None,
    quiet: bool = False,
    profile: Profile | None = None,
    workers: int = 0,
    trackers: Sequence[Named] = DEFAULT,
    init_from: str | Path | None = None,
    init_parts: Sequence[str] = (),
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
      trackers: names (`tensorboard`, `wandb`, `trackio`, `none`), or objects with the
        methods of `vaejax.training.trackers.Tracker`; `auto` is TensorBoard, where it
        is installed and there is a workdir.
      init_from: a run or shared folder, as `vaejax.load` takes it, whose parameters and
        statistics a new run starts from; step, optimizers and schedules start over.
      init_parts: the parts of the model to take from it, by name; none are all.

    Returns:
      The state after the last step; with `patience` and a workdir, the best on the
      validation split.

    Raises:
      InputError: the workdir holds another run, the batch does not split over the
        devices, the parameters do not fit the memory, a tracker is unknown or missing,
        or the model has other parts or shapes than `init_from`.
      Diverged: a term or parameter was not finite.
      Stopped: SIGTERM, SIGHUP or Ctrl-C; the state has been saved, call again to go on.
    """
    check_patience(experiment)
    open_frozen(experiment)
    training = experiment.training
    mesh = parallel.make_mesh(devices, training.batch_size, training.fsdp)
    init, given = parallel.compile_init(experiment, mesh), blank_start(experiment, mesh)
    parallel.check_memory(jax.eval_shape(init, *given), mesh)
    folder = None if workdir is None else workdir_of(workdir)
    told, source = tracking_of(trackers, folder), init_source(init_from, init_parts)
    with (
        Interrupts() as interrupts,
        Recorder(experiment, folder, quiet, told, source) as recorder,
    ):
        state = recorder.restore(mesh)
        if state is None:
            state = recorder.first(init(*given))
        step, run = int(state.step), Run(experiment, recorder)
        recorder.begin(step)
        recorder.introduce(state, mesh)
        if step < experiment.steps and not recorder.exhausted():
            recorder.starts(step, mesh, count_parameters(state))
            if profile:
                profile.check(step, experiment.steps)
            feed = training_feed(experiment, mesh, workers)
            with contextlib.ExitStack() as ends:
                ends.callback(feed.close)
                trace = ends.enter_context(Trace(profile))
                alone = Stepper(run, state, feed, mesh, trace, interrupts)
                evaluate = held_out_metrics(experiment, mesh)
                run_intervals(alone, experiment, step, evaluate, interrupts)
            state = alone.state
        return recorder.best(mesh) or state


class Runs(Protocol):
    """One run, or several side by side: the loop drives either."""

    @property
    def training(self) -> bool:
        """Whether any has steps left to take."""
        ...

    def advance(self, start: int, stop: int) -> Iterator[tuple[Run, Interval]]:
        """Takes the steps `start` + 1 to `stop` of each run that has them to take."""
        ...

    def stopped(self, step: int, signum: int) -> str:
        """The message when a signal stopped them."""
        ...


def run_intervals(
    runs: Runs,
    experiment: Experiment,
    step: int,
    evaluate: Evaluate,
    interrupts: Interrupts,
) -> None:
    """All intervals from `step` to the end of the runs.

    `experiment` is that of all runs but for numbers and seed.
    """
    steps = experiment.steps
    length = experiment.training.log_every or experiment.epoch_steps
    preemption = Preemption(interrupts)
    hooks = standard_hooks(evaluate, preemption)
    for start, stop in intervals(step, steps, length):
        at = stop
        for run, interval in runs.advance(start, stop):
            at = interval.stop
            try:
                for hook in hooks:
                    hook(run, interval)
            except Diverged as error:
                run.diverge(error)
        signum = interrupts.signum
        if preemption.leaving and signum is not None and at < steps:
            raise Stopped(runs.stopped(at, signum), signum)
        if not runs.training:
            break


def check_patience(experiment: Experiment) -> None:
    """Stopping early chooses by validation data, never by the test split."""
    splits = experiment.dataset.spec.sizes
    if experiment.training.patience and "validation" not in splits:
        raise InputError(
            "--patience needs validation data: hold it out by --validation"
        )


def open_frozen(experiment: Experiment) -> None:
    """Opens the networks that objectives read, before anything is compiled.

    InputError where one is missing, or another than the run began with.
    """
    for each in experiment.frozen.values():
        each.check()


def first_state(experiment: Experiment, mesh: Mesh) -> TrainState:
    """The state before the first step."""
    return parallel.compile_init(experiment, mesh)(*blank_start(experiment, mesh))


def blank_start(experiment: Experiment, mesh: Mesh) -> tuple[Key, Batch]:
    """The arguments that initialize a state: a key, and a raw batch of zeros."""
    raw = parallel.place(blank(experiment.dataset.spec), mesh)
    return jax.random.key(experiment.training.seed), raw


def training_feed(experiment: Experiment, mesh: Mesh, workers: int = 0) -> Feed:
    """The batches of every step; close it when no more are needed."""
    settings, dataset = experiment.training, experiment.dataset
    size, seed = dataset.spec.sizes["train"], settings.seed
    order = experiment.order(size, settings.batch_size, seed)
    steps = experiment.steps
    return feed_of(dataset, "train", order, steps, mesh, workers, augment=seed)


def held_out_metrics(experiment: Experiment, mesh: Mesh) -> Evaluate:
    """The metrics over the validation split, or the test split where there is none."""
    batch = experiment.training.batch_size
    evaluator = Evaluator(experiment, held_out_split(experiment), 0, mesh, batch)
    return lambda run, interval: evaluator(interval.state)


def intervals(step: int, total: int, length: int) -> Iterator[tuple[int, int]]:
    """(start, stop) between multiples of `length`, from `step` to `total`."""
    while step < total:
        stop = min(total, (step // length + 1) * length)
        yield step, stop
        step = stop
