"""How scripts end: signals, terminals that go away, and what cannot be printed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.test_scripts import run  # noqa: F401  (a fixture)
from vaejax import load
from vaejax.cli.parse import condensed
from vaejax.runtime.preemption import Interrupts
from vaejax.runtime.starting import Kept, Watch, kept_stream

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = "--dataset digits --hidden 8 --latents 2 --batch-size 96"
ALONE = {"JAX_NUM_CPU_DEVICES": "1"}
ENDLESS = 30_000_000  # importance samples, which take longer than any test


def started(words, **settings):
    name, *given = words.split()
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    env = os.environ | ALONE | settings.pop("env", {})
    command = [sys.executable, SCRIPTS / f"{name}.py", *given]
    return subprocess.Popen(command, text=True, env=env, **settings)


def read_line(process):
    assert process.stderr is not None
    return process.stderr.readline()


def ended(process, *signums):
    """Exit code, stderr and seconds after the last of the signals."""
    for signum in signums:
        process.send_signal(signum)
        time.sleep(0.2)
    began = time.perf_counter()
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.perf_counter() - began


@pytest.mark.slow
def test_ctrl_c_ends_an_evaluation_with_a_line(run):  # noqa: F811
    """Its loop runs in XLA; the interpreter must not be taken down beside it."""
    process = started(f"evaluate {run} --samples {ENDLESS}")
    read_line(process)  # the warning, after which it computes
    time.sleep(3)
    code, said, seconds = ended(process, signal.SIGINT)
    assert (code, said) == (130, "stopped by SIGINT\n")
    assert seconds < 10


@pytest.mark.slow
def test_ctrl_c_ends_imports_with_a_line():
    process = started("train vae --help", stdout=subprocess.DEVNULL)
    time.sleep(0.7)
    code, said, seconds = ended(process, signal.SIGINT)
    # Before Python itself has started, SIGINT just ends it.
    if code != -signal.SIGINT:
        assert (code, said) in ((130, "stopped by SIGINT\n"), (0, ""))
    assert seconds < 10
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_lost_terminal_saves_a_training(tmp_path):
    """SIGHUP, and a stderr whose reader has left: saved at the end of the steps."""
    # A program that nohup starts goes on ignoring SIGHUP.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    words = f"train vae {TINY} --epochs 100000 --workdir {tmp_path / 'run'}"
    process = started(words)
    signal.signal(signal.SIGHUP, before)
    line = read_line(process)
    while "step " not in line:
        assert line, "it ended before its first steps"
        line = read_line(process)
    for stream in (process.stderr, process.stdout):
        assert stream is not None
        stream.close()
    time.sleep(0.5)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert int(load(tmp_path / "run")[1].step) > 0


@pytest.mark.slow
def test_a_second_signal_ends_the_first_compilation(tmp_path):
    words = f"train vae_conv --dataset digits --workdir {tmp_path / 'run'}"
    env = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    process = started(words, env=env)
    read_line(process)  # the introduction, before the steps are compiled
    time.sleep(0.3)
    code, said, seconds = ended(process, signal.SIGINT, signal.SIGINT)
    assert code == 130
    first, last = said.splitlines()[-2:]
    assert first.startswith("SIGINT: saves after the steps under way")
    assert last == "stopped by SIGINT"
    assert seconds < 10


@pytest.mark.slow
def test_a_training_needs_no_terminal(tmp_path):
    """All of it is there, and no file has what belongs on a terminal."""
    script = '"$0" "$@" 2>&- | head -1'
    given = [*f"vae {TINY} --epochs 2 --workdir".split(), tmp_path / "run"]
    words = ["bash", "-o", "pipefail", "-c", script, sys.executable]
    done = subprocess.run(
        [*words, SCRIPTS / "train.py", *given],
        env=os.environ | ALONE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(load(tmp_path / "run")[1].step) == 28
    assert (tmp_path / "run" / "report.html").exists()
    for path in (tmp_path / "run").glob("*.jsonl"):
        [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"JAX_NUM_CPU_DEVICES": "abc"}, "JAX_NUM_CPU_DEVICES=abc"),
        ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS='cuda'"),
    ],
)
def test_settings_of_jax_get_a_line(settings, said, run):  # noqa: F811
    process = started(f"sample {run} --num 2 --out {run}/x.npz", env=settings)
    code, error, _ = ended(process)
    assert code == 2
    assert said in error
    assert error.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in error


def test_what_an_encoding_lacks_is_a_question_mark(tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        stream = kept_stream(file.fileno(), file)
        print("-1.5 ± 0.3 \N{SNOWMAN}", file=stream, flush=True)
        assert not stream.isatty()
    assert (tmp_path / "out").read_bytes() == b"-1.5 ? 0.3 ?\n"


ASCII = """\
 Value error
 ----------------------------------------------------------------------
  Error parsing --latents: invalid literal for int() with base 10: 'x'
  ----------------------------------------------------------------------
  Argument helptext:
      --latents INT
"""


def test_frames_of_ascii_terminals_are_left_out():
    line = condensed(ASCII, "train.py")
    wanted = "Error parsing --latents: invalid literal for int() with base 10: 'x'"
    assert line == f"{wanted} (see train.py --help)"


@pytest.mark.slow
def test_help_may_be_cut():
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$0" "$@" --help | head -1']
        + [sys.executable, SCRIPTS / "train.py"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


def test_a_stream_drops_what_nobody_reads():
    read, write = os.pipe()
    stream = Kept(write, "w")
    assert stream.write(b"abc") == 3
    assert os.read(read, 3) == b"abc"
    os.close(read)
    assert stream.write(b"abcd") == 4
    stream.close()
    with Kept("/dev/full", "w") as full, pytest.raises(OSError, match="No space left"):
        full.write(b"abc")


@pytest.fixture
def watch():
    """A watch over this process's signals that notes what it would say at the end."""
    before = {s: signal.getsignal(s) for s in (2, 15, 1)}
    came, ends = threading.Event(), []

    def end(line, code):
        ends.append((line, code))
        came.set()

    yield Watch(end), came, ends
    signal.set_wakeup_fd(-1)
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_the_first_signal_is_left_to_training_the_second_is_not(watch, capsys):
    watched, came, ends = watch
    with Interrupts() as interrupts:
        watched.answer(signal.SIGTERM)
        assert not ends
        assert "SIGTERM: saves after the steps" in capsys.readouterr().err
        watched.answer(signal.SIGTERM)
        assert ends == [("stopped by SIGTERM", 143)]
        assert not interrupts.came()
    ends.clear()
    came.clear()
    with Interrupts() as interrupts:  # Python's handler comes first, then the thread
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.came()
        assert not came.wait(0.5)
        signal.raise_signal(signal.SIGTERM)
        assert came.wait(5)
    assert set(ends) == {("stopped by SIGTERM", 143)}


def test_a_signal_without_training_ends_the_process(watch):
    _, came, ends = watch
    signal.raise_signal(signal.SIGTERM)
    assert came.wait(5)
    assert ends == [("stopped by SIGTERM", 143)]


def test_nohup_stays_in_force():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupts.came()
    finally:
        signal.signal(signal.SIGHUP, before)
