"""The mains of the scripts, called with parsed flags."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vaejax import parallel
from vaejax.apply.query import checked_temperature
from vaejax.cli.effort import check_measuring
from vaejax.cli.judging import Judges, measure_lpips, open_comparisons
from vaejax.cli.measuring import EvaluationSettings, measured
from vaejax.cli.outcome import keep_examples, keep_numbers, place_of, writing
from vaejax.cli.parse import command_line
from vaejax.cli.tables import markdown, print_table
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.quantities import quantities_of
from vaejax.runtime import multihost
from vaejax.runtime.jsonlines import finite
from vaejax.runtime.limits import check_count
from vaejax.runtime.storage import is_remote, write_whole
from vaejax.samplers.cache import sampler_of_run
from vaejax.samplers.record import Drawing
from vaejax.stages.decoding import decoded
from vaejax.sweeps.summary import summarize
from vaejax.sweeps.sweep import study
from vaejax.training.card import keep_card, kept_card
from vaejax.training.loop import train as train_experiment
from vaejax.training.per_example import check_example_file, measurement_of
from vaejax.training.profiling import Profile
from vaejax.training.trackers import DEFAULT, track_evaluation
from vaejax.training.workdir import load, readable_workdir, workdir_of, write_json


def train_run(
    experiment: Experiment,
    workdir: Path,
    devices: int | None,
    debug_nans: bool,
    profile: str = "",
    workers: int = 0,
    track: Sequence[str] = DEFAULT,
    init_from: str | None = None,
    init_parts: Sequence[str] = (),
) -> None:
    """Trains in a workdir and says what to do next."""
    check_count("workers", workers)
    workdir = workdir_of(workdir)
    if profile and is_remote(workdir):
        raise InputError("--profile writes to this machine: give a local --workdir")
    trace = Profile.parse(profile, workdir / "profile") if profile else None
    keep_compiled()
    jax.config.update("jax_debug_nans", debug_nans)
    state = train_experiment(
        experiment,
        workdir,
        devices=devices,
        profile=trace,
        workers=workers,
        trackers=track,
        init_from=init_from,
        init_parts=init_parts,
    )
    try_report(workdir, experiment, of_this_host(state))
    if multihost.first():
        print(f"done; next: {command_line('evaluate')} {workdir}")


def of_this_host(state: TrainState) -> TrainState:
    """The part of a state for pictures, on one device: all hosts must call this."""
    needed = state._replace(opt_state={})
    return jax.device_put(
        jax.tree.map(multihost.gathered_array, needed), jax.local_devices()[0]
    )


def try_report(
    workdir: Path,
    experiment: Experiment,
    state: TrainState,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Writes a run's page, on the first host; a failure is a warning in one line.

    By default from the card that the run's end has kept. The run is kept already, and a
    page is never worth it.
    """
    if not multihost.first():
        return
    from vaejax.reports import write_report as write

    try:
        print(f"wrote {write(workdir, experiment, state, card or kept_card(workdir))}")
    except Exception as error:  # of drawing or of the disk: the run has succeeded
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"warning: no report of {workdir}: {reason}", file=sys.stderr)


def report_run(workdir: Path, out: Path | None) -> None:
    """Writes the page of a run, or of the runs of a study."""
    from vaejax.reports import report as write

    keep_compiled()
    print(f"wrote {write(workdir, out=out)}")


def evaluate_run(
    workdir: Path,
    evaluation: EvaluationSettings = EvaluationSettings(),
    judges: Judges = Judges(),
    out: Path | None = None,
    examples_out: Path | None = None,
) -> None:
    """Prints a table and writes it as JSON: to `out`, or else `evaluation.json`.

    The numbers are printed first, and those of each example go to `examples_out`. A run
    that cannot be written, or that another process writes to, keeps its page.
    """
    workdir = readable_workdir(workdir)
    place = place_of(out, workdir / "evaluation.json")
    check_example_file(examples_out)
    keep_compiled()
    experiment, state = load(workdir)
    shown = experiment
    if judges.of_samples:
        shown, _ = decoded(experiment, state)
    check_measuring(shown, evaluation, judges)
    if judges.temperature is not None:
        checked_temperature(judges.temperature)
    fitted = sampler_of_run(workdir, experiment, state, judges.sampler)
    drawing = Drawing(fitted, judges.temperature)
    comparisons = open_comparisons(shown, judges, drawing)
    experiment, named = measure_lpips(experiment, judges.lpips)
    comparisons += named
    found = measured(experiment, state, evaluation, judges, comparisons, drawing)
    values, seen = found.values, found.seen
    state = of_this_host(state)
    if not multihost.first():
        return
    title = f"{experiment.name} on {experiment.dataset.spec.name}, {evaluation.split}"
    print_table(title, values, quantities_of(experiment))
    if "elbo" in values:
        print(f"{evaluation.split} negative ELBO {-values['elbo']:.2f} nats")
    for name, value in seen.items():
        print(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    if examples_out is not None:
        about = measurement_of(experiment, state, **evaluation.part)
        keep_examples(experiment, about, found.whole, examples_out)
    if out is not None:
        keep_numbers(found.record, values, place, named=True)
        return
    with writing(workdir) as allowed:
        if allowed and keep_numbers(found.record, values, place, named=False):
            card = keep_card(workdir)
            track_evaluation(workdir)
            try_report(workdir, experiment, state, card)


def train_study(
    make: Callable[..., Experiment],
    vary: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    workdir: Path,
    seeds: int,
    devices: int | None,
    evaluation: EvaluationSettings,
    judges: Judges,
    track: Sequence[str] = DEFAULT,
) -> None:
    """Trains and measures all replicas; writes and prints the study's table."""
    workdir = workdir_of(workdir)
    keep_compiled()
    parallel.device_per_core()
    first = make(**{**fixed, **{name: each[0] for name, each in vary.items() if each}})
    check_measuring(first, evaluation, judges, "importance_samples")
    replicas = study(
        make, workdir, vary, seeds=seeds, devices=devices, trackers=track, **fixed
    )
    numbers = []
    for replica in replicas:
        if replica.diverged:
            print(
                f"{replica.folder.name} diverged: {replica.diverged}", file=sys.stderr
            )
            numbers.append(None)
            continue
        loaded = load(replica.folder)
        found = measured(*loaded, evaluation, judges)
        write_json(replica.folder / "evaluation.json", finite(found.record))
        numbers.append(found.values | found.seen)
        card = keep_card(replica.folder)
        track_evaluation(replica.folder)
        try_report(replica.folder, *loaded, card)
    rows = summarize(replicas, numbers)
    write_json(workdir / "table.json", [row._asdict() for row in rows])
    table = markdown(rows)
    write_whole(workdir / "table.md", table)
    print(table, end="")
    print(f"wrote {workdir / 'table.md'}")
    report_run(workdir, None)


def keep_compiled() -> None:
    """Keeps compiled programs between runs, in the user's cache (or as JAX is told)."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        path = Path(home) / "vaejax" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
