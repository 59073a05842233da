"""The loop: resuming bit for bit, stopping on signals, early stops, divergence."""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from vaejax import InputError, load, parallel, presets, train
from vaejax.objectives.terms import TERMS as DESCRIBED
from vaejax.runtime.preemption import Stopped
from vaejax.training.checkpoint import Checkpoints
from vaejax.training.hooks import passes
from vaejax.training.loop import Diverged, first_state, intervals
from vaejax.training.metric_writer import JsonLines, Progress
from vaejax.training.profiling import Profile, Trace
from vaejax.training.recorder import Recorder
from vaejax.training.trackers import no_tensorboard, tracking_of

TINY = {
    "dataset": "digits",
    "hidden": (16,),
    "latents": 3,
    "batch_size": 96,
    "epochs": 6,
    "ema": 0.9,
    "decay": "cosine",
    "schedule": "linear",
    "warm_up": 3.0,
    "log_every": 4,
    "evaluate_every": 1,
    "checkpoint_every": 1,
}


def tiny(**settings):
    return presets.vae(**TINY | settings)


def assert_same_run(one, other):
    """Parameters, statistics, optimizer, average and metrics, bit for bit."""
    (_, a), (_, b) = load(one), load(other)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    read = [(path / "metrics.jsonl").read_bytes() for path in (one, other)]
    assert read[0] == read[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("run") / "finished"
    train(tiny(), folder, quiet=True, devices=1)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def rows(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_intervals_end_at_multiples_wherever_they_start():
    assert list(intervals(0, 10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(intervals(6, 10, 4)) == [(6, 8), (8, 10)]
    assert list(intervals(10, 10, 4)) == []


def test_an_event_happens_at_the_first_interval_past_its_multiple():
    assert [passes(a, b, 6) for a, b in intervals(0, 20, 4)] == [0, 1, 1, 0, 1]


def test_rows_hold_every_interval_and_evaluation(finished):
    steps = [r["step"] for r in rows(finished) if r["split"] == "train"]
    assert steps == [*range(4, 84, 4), 84]
    assert [r["step"] for r in rows(finished) if r["split"] == "test"][-1] == 84


def test_the_loss_is_the_sum_of_its_terms_in_the_log(finished):
    for row in rows(finished):
        if row["split"] == "train":
            parts = row["vae/rate"] + row["vae/distortion"]
            assert row["vae/loss"] == pytest.approx(parts, rel=1e-5)
            assert row["vae/kl"] >= 0


def test_how_steps_are_cut_into_calls_changes_nothing(finished, tmp_path):
    train(tiny(log_every=7), tmp_path / "cut", quiet=True, devices=1)
    (_, a), (_, b) = load(finished), load(tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_a_trace_holds_the_steps_asked_for_and_changes_nothing(finished, tmp_path):
    profile = Profile.parse("6:9", tmp_path / "profile")
    train(tiny(), tmp_path / "run", quiet=True, devices=1, profile=profile)
    assert_same_run(tmp_path / "run", finished)
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0


def test_a_trace_is_cut_out_of_the_intervals_it_meets():
    trace = Trace(Profile(6, 9, Path()))
    assert list(trace.pieces(0, 4)) == [(0, 4)]
    assert list(trace.pieces(4, 8)) == [(4, 6), (6, 8)]
    assert list(trace.pieces(8, 12)) == [(8, 9), (9, 12)]
    assert list(trace.pieces(4, 12)) == [(4, 6), (6, 9), (9, 12)]


@pytest.mark.parametrize(("start", "stop"), [(4, 8), (4, 6), (6, 8), (6, 9), (0, 4)])
def test_a_trace_is_opened_once_wherever_intervals_end(start, stop, monkeypatch):
    seen = []

    @contextlib.contextmanager
    def noted(folder):
        seen.append("opened")
        yield
        seen.append("closed")

    monkeypatch.setattr(jax.profiler, "trace", noted)
    with Trace(Profile(start, stop, Path())) as trace:
        for interval in intervals(0, 12, 4):
            for first, last in trace.pieces(*interval):
                trace.before(first, None)
                seen.append((first, last))
                trace.after(last, None)
    inside = seen[seen.index("opened") + 1 : seen.index("closed")]
    assert (inside[0][0], inside[-1][1]) == (start, stop)
    assert seen.count("opened") == seen.count("closed") == 1


@pytest.mark.parametrize("text", ["6", "9:6", "6:6", "a:b", "-1:3"])
def test_a_trace_needs_two_steps(text):
    with pytest.raises(InputError, match="as 100:105"):
        Profile.parse(text, Path())


def test_a_trace_is_of_steps_to_come(tmp_path):
    profile = Profile(500, 505, tmp_path)
    with pytest.raises(InputError, match="steps 0 to 84"):
        train(tiny(), devices=1, quiet=True, profile=profile)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_call_goes_on(
    finished, tmp_path, monkeypatch, signum
):
    report = Recorder.report

    def interrupted(self, step, *reported):
        report(self, step, *reported)
        if step == 12:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", interrupted)
        with pytest.raises(Stopped, match=r"step 12, saved in .*goes on") as stopped:
            train(tiny(), tmp_path / "run", quiet=True, devices=1)
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) == before
    train(tiny(), tmp_path / "run", quiet=True, devices=1)
    assert_same_run(tmp_path / "run", finished)


def script(*words, **settings):
    """The command line of a run with the settings of TINY."""
    flags = [
        word
        for name, value in (TINY | settings).items()
        for word in (
            f"--{name.replace('_', '-')}",
            *(map(str, value) if isinstance(value, tuple) else [str(value)]),
        )
    ]
    path = Path(__file__).parents[1] / "scripts" / "train.py"
    return [sys.executable, str(path), "vae", *flags, "--devices", "1", *words]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first rows", "after a checkpoint"])
def test_a_killed_run_ends_as_if_it_had_not_been(finished, tmp_path, moment):
    folder = tmp_path / "killed"
    first = {
        "first rows": lambda: (
            (folder / "metrics.jsonl").exists()
            and (folder / "metrics.jsonl").stat().st_size > 0
        ),
        "after a checkpoint": lambda: (folder / "checkpoints" / "28").exists(),
    }[moment]
    process = subprocess.Popen(
        script("--workdir", str(folder)), stderr=subprocess.DEVNULL
    )
    try:
        while not first() and process.poll() is None:
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(tiny(), folder, quiet=True, devices=1)
    assert_same_run(folder, finished)


def test_rows_are_on_the_disk_before_the_checkpoint_of_their_step(
    tmp_path, monkeypatch
):
    """A machine may die with all that it had only in memory."""
    events = []
    sync, save = JsonLines.sync, Checkpoints.save
    monkeypatch.setattr(
        JsonLines, "sync", lambda self: (events.append("rows"), sync(self))
    )
    monkeypatch.setattr(
        Checkpoints, "save", lambda *given: (events.append("state"), save(*given))
    )
    train(tiny(epochs=2), tmp_path / "run", quiet=True, devices=1)
    assert events == ["rows", "state"] * (len(events) // 2) != []


def test_a_finished_run_is_returned_and_nothing_is_written(copy):
    before = (copy / "metrics.jsonl").read_bytes()
    state = train(tiny(), copy, quiet=True, devices=1)
    assert int(state.step) == 84
    assert (copy / "metrics.jsonl").read_bytes() == before


def largest_file(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_bit_is_noticed_and_an_older_checkpoint_used(
    copy, finished, caplog, capsys
):
    flip(largest_file(copy / "checkpoints" / "84" / "state"))
    with caplog.at_level(logging.WARNING):
        train(tiny(), copy, quiet=True, devices=1)
    assert "checkpoints/84 is damaged" in caplog.text
    assert_same_run(copy, finished)
    caplog.clear()
    load(copy)  # the damaged one has been replaced
    assert "damaged" not in caplog.text


def test_truncated_and_empty_checkpoints_are_passed_over(copy, finished, caplog):
    newest = copy / "checkpoints" / "84"
    shutil.rmtree(newest / "state")
    (copy / "checkpoints" / "96").mkdir()
    with caplog.at_level(logging.WARNING):
        train(tiny(), copy, quiet=True, devices=1)
    assert "checkpoints/96 is damaged" in caplog.text
    (_, a), (_, b) = load(copy), load(finished)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_without_one_sound_checkpoint_nothing_is_overwritten(copy):
    for folder in (copy / "checkpoints").iterdir():
        shutil.rmtree(folder / "state", ignore_errors=True)
    with pytest.raises(InputError, match=r"no checkpoint in .* is sound"):
        train(tiny(), copy, quiet=True, devices=1)


def test_a_torn_last_line_of_the_metrics_is_dropped(copy):
    path = copy / "metrics.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + b'{"step": 84, "spl')
    for newest in (81, 84):  # so that there is something to write
        shutil.rmtree(copy / "checkpoints" / str(newest), ignore_errors=True)
    train(tiny(), copy, quiet=True, devices=1)
    assert path.read_bytes() == before
    assert (copy / "metrics.jsonl.dropped").read_bytes().endswith(b'"spl\n')


def test_divergence_names_the_term_the_step_and_the_way_back(tmp_path):
    wild = tiny(
        learning_rate=1e20, likelihood="gaussian", decay="constant", binarize="none"
    )
    pattern = r"vae/\w+ is (nan|inf|-inf) at step \d \(steps 1 to 4\).*no checkpoint"
    with pytest.raises(Diverged, match=pattern):
        train(wild, tmp_path / "run", quiet=True, devices=1)


def test_debug_nans_names_the_operation_and_its_line(tmp_path):
    wild = tiny(
        learning_rate=1e20, likelihood="gaussian", decay="constant", binarize="none"
    )
    with (
        jax.debug_nans(True),
        pytest.raises(
            Diverged, match=r"nan generated by primitive: \w+\. .*vaejax/[\w/]+\.py:\d+"
        ),
    ):
        train(wild, tmp_path / "run", quiet=True, devices=1)


@pytest.mark.slow
def test_early_stopping_returns_and_loads_the_best_state(tmp_path):
    """A learning rate that grows useless: the best state is not the last."""
    growing = {"learning_rate": 0.05, "decay": "constant", "checkpoint_every": 50}
    experiment = tiny(validation=0.3, patience=2, epochs=400, **growing)
    state = train(experiment, tmp_path / "run", quiet=True, devices=1)
    held = [r for r in rows(tmp_path / "run") if r["split"] == "validation"]
    losses = [r["selection"] for r in held]
    assert losses[-1] > min(losses)
    assert len(losses) - 1 - losses.index(min(losses)) == 2
    assert held[-1]["step"] < experiment.steps
    assert int(state.step) == held[losses.index(min(losses))]["step"]
    _, loaded = load(tmp_path / "run")
    assert int(loaded.step) == int(state.step)
    again = train(experiment, tmp_path / "run", quiet=True, devices=1)
    assert int(again.step) == int(state.step)


def test_advice_where_the_best_state_is_kept_and_no_checkpoint_yet(tmp_path):
    experiment = tiny(validation=0.3, patience=2)
    mesh = parallel.make_mesh(1, 96)
    state = first_state(experiment, mesh)
    with Recorder(experiment, tmp_path / "run", quiet=True) as recorder:
        recorder.begin(0)
        recorder.evaluated(4, "validation", {"elbo": -1.0}, state)
        assert "no checkpoint before it" in recorder.advice()


def test_patience_needs_validation_data():
    with pytest.raises(InputError, match="--validation"):
        train(tiny(patience=2), quiet=True)


def test_without_a_workdir_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = train(tiny(epochs=1), quiet=True, devices=1)
    assert int(state.step) == 14
    assert not any(tmp_path.iterdir())


def test_an_experiment_from_python_has_no_configuration_to_keep(tmp_path):
    import dataclasses

    unnamed = dataclasses.replace(tiny(), name="")
    with pytest.raises(InputError, match="preset"):
        train(unnamed, tmp_path / "run")


def test_seeds_differ_and_repeat():
    one, same, other = (
        train(tiny(epochs=1, seed=seed), quiet=True, devices=1) for seed in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(*(jax.tree.leaves(s.params)[1] for s in (one, other)))


def test_where_tensorboard_gets_nothing_the_log_says_why(tmp_path, monkeypatch):
    assert no_tensorboard(tmp_path) == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "vaejax[tensorboard]" in no_tensorboard(tmp_path)
    tracking = tracking_of(("auto",), tmp_path)
    assert "vaejax[tensorboard]" in tracking.lacking
    assert not tracking.wanted


TERMS = {
    "vae/loss": 104.23456,
    "vae/distortion": 80.123,
    "vae/kl": 24.5,
    "vae/implied_sigma": 0.25,
}


# Step, bar, time and gaps take 47 columns; all terms 73, the longest note 2 + 51.
@pytest.mark.parametrize(
    ("width", "terms", "speed"),
    [(61, 1, False), (80, 1, True), (172, 3, True), (173, 4, True)],
)
def test_a_line_of_progress_fits_its_terminal(width, terms, speed, monkeypatch):
    """One line with step, bar and time, which keeps the first of the terms."""
    screen = io.StringIO()

    def terminal(stderr):
        del stderr
        return Console(file=screen, width=width, force_terminal=True)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("vaejax.runtime.terminal.console", terminal)
    progress = Progress(12_000, 0, DESCRIBED)
    progress.train(6_000, TERMS, 12_345.6, waiting=0.25)
    screen.truncate(0)
    progress.close()  # which draws it once more
    lines = Text.from_ansi(screen.getvalue()).plain.replace("\0", "").split("\n")
    (line,) = (line.rstrip() for line in lines if line.strip())
    assert len(line) <= width
    assert line.startswith("step 6000/12000 ━━━━━━━━━━")
    assert re.search(r"(-:--|\d\d:\d\d)$", line)
    assert [name for name in TERMS if name in line] == list(TERMS)[:terms]
    assert ("12,346 examples/s" in line) == speed
    assert ("25% of the time waiting for data" in line) == (width > 80)
