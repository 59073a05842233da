"""Files of a run: who writes them, what is damaged, and what takes its place."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaejax
from vaejax import InputError, load, presets, train
from vaejax.apply.impute import Filled, check_filled
from vaejax.cli.outcome import keep_numbers
from vaejax.experiment import Experiment
from vaejax.reports import report
from vaejax.runtime.jsonlines import keep_until, lines_of, read_rows
from vaejax.runtime.lock import NAME, Lock, held, scratch
from vaejax.runtime.storage import whole_folder, write_whole, written_whole
from vaejax.training.checkpoint import Checkpoints
from vaejax.training.recorder import Recorder
from vaejax.training.workdir import read_config, recorded_experiment

from .test_scripts import call, refused

TINY = {
    "dataset": "digits",
    "hidden": (8,),
    "latents": 2,
    "batch_size": 359,
    "log_every": 1,
    "checkpoint_every": 1,
    "epochs": 2,
}
ROWS = [
    {"step": step, "split": "train", "vae/loss": step / 7, "vae/kl": 1e-30 * step}
    for step in range(1, 7)
]


def tiny(**changes) -> Experiment:
    return presets.vae(**TINY | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of eight steps, with checkpoints of the last three."""
    folder = tmp_path_factory.mktemp("files") / "run"
    train(tiny(), folder, quiet=True, devices=1)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def content(folder):
    """Bytes of all files but those that training leaves alone anyway."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# One writer


def test_a_second_process_is_refused_and_told_who_writes(finished, tmp_path, capsys):
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    holds = (
        "import sys; from pathlib import Path; from vaejax.runtime.lock import Lock\n"
    )
    holds += "lock = Lock(Path(sys.argv[1])); print('held', flush=True)\n"
    holds += "sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, copy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        before = content(copy)
        said = refused(capsys, "train", "vae", "--workdir", copy)
        assert f"another process writes to {copy} (process {other.pid} on " in said
        assert content(copy) == before
        load(copy)  # readers need no lock
        other.kill()  # whose lock dies with it
    assert train(tiny(), copy, quiet=True, devices=1).step == 8
    assert not (copy / NAME).exists()


def test_the_lock_is_one_in_a_process_too_and_is_released(tmp_path):
    refuses = pytest.raises(InputError, match=f"process {os.getpid()} on ")
    with held(tmp_path), refuses:
        Lock(tmp_path)
    Lock(tmp_path).release()
    assert not list(tmp_path.iterdir())


def test_two_studies_of_one_folder(tmp_path):
    from vaejax import study

    folder = tmp_path / "study"
    folder.mkdir()
    with held(folder), pytest.raises(InputError, match="another process writes"):
        study(presets.vae, folder, seeds=1, quiet=True, **TINY)
    assert not list(folder.iterdir())


def test_a_failed_start_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("vaejax.training.loop.run_intervals", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tiny(seed=3), folder, quiet=True, devices=1)
    assert read_config(folder)["arguments"]["seed"] == 3
    with Recorder(tiny(), folder, quiet=True):
        assert read_config(folder)["arguments"]["seed"] == 0


def test_what_kept_a_row_is_not_claimed(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match=r"seed 0 \(here 3\)"):
        Recorder(tiny(seed=3), copy, quiet=True)
    assert not (copy / NAME).exists()


def test_what_killed_processes_left_is_removed_once_nobody_has_it(tmp_path):
    left, young = tmp_path / ".vaejax-left", tmp_path / ".vaejax-young"
    young.mkdir()
    left.mkdir()
    with scratch(tmp_path) as used:
        for old in (left, used):
            os.utime(old, (0, 0))
        with scratch(tmp_path) as made:
            assert sorted(tmp_path.iterdir()) == sorted([young, used, made])
    assert list(tmp_path.iterdir()) == [young]


# Rows


def test_a_damaged_line_is_named_and_nothing_is_changed(copy, capsys):
    path = copy / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (b'{"step": 44, "sp#\n', b"\n", b"\xff\xfe\n", b"[1]\n", b"9\n"):
        path.write_bytes(b"".join([lines[0], damaged, *lines[2:]]))
        before = content(copy)
        for read in (
            lambda: train(tiny(), copy, quiet=True, devices=1),
            lambda: report(copy),
        ):
            with pytest.raises(InputError, match=f"line 2 of {len(lines)} is damaged"):
                read()
        assert content(copy) == before


def test_rows_of_a_finished_run_stay(copy):
    path = copy / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"step": 8, "spl')
    before = content(copy)
    train(tiny(), copy, quiet=True, devices=1)
    after = content(copy)
    assert {p: after[p] for p in before if p.suffix == ".jsonl"} == {
        p: before[p] for p in before if p.suffix == ".jsonl"
    }


@pytest.mark.parametrize("torn", [b"", b'{"step": 7, "spl', b"\0\0\0\n"])
@pytest.mark.parametrize("step", [0, 3, 6])
def test_what_is_taken_out_is_kept_beside_and_told(tmp_path, caplog, torn, step):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines_of(ROWS).encode() + torn)
    assert keep_until(path, step) == ROWS[:step] == read_rows(path)
    aside = tmp_path / "metrics.jsonl.dropped"
    gone = lines_of(ROWS[step:]).encode() + torn.removesuffix(b"\n")
    if not gone:
        assert not aside.exists()
        return
    assert aside.read_bytes().removesuffix(b"\n") == gone.removesuffix(b"\n")
    lines = 6 - step + bool(torn)
    assert f"moved {lines} of {6 + bool(torn)} lines" in caplog.text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_bytes_of_rows_that_change_are_found_or_the_rows_are(tmp_path_factory, data):
    """Whatever a file holds, rows are read or a line is named; none goes in silence."""
    raw = bytearray(lines_of(ROWS).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.binary(max_size=3)
        )
    path = tmp_path_factory.mktemp("rows") / "metrics.jsonl"
    path.write_bytes(raw)
    try:
        rows = read_rows(path)
    except InputError as error:
        assert "line" in str(error)
        assert path.read_bytes() == raw
    else:
        lines = bytes(raw).removesuffix(b"\n").count(b"\n") + 1
        assert len(rows) in (lines, lines - 1)  # but for a torn last one
        assert all(isinstance(row["step"], int) for row in rows)


# Configurations


EDITS = [
    {},
    {"format": "1"},
    {"format": 10**400},
    {"preset": None},
    {"preset": ["vae"]},
    {"preset": "vea"},
    {"arguments": None},
    {"arguments": {"latents": "2"}},
    {"arguments": {"latents": 10**400}},
    {"arguments": {"hidden": 8}},
    {"arguments": {"hidden": [8, [8]]}},
    {"arguments": {"width": 8}},
    {"arguments": {"body": "cnn"}},
    {"arguments": {"dequantize": 1}},
    {"data": None},
    {"data": {}},
    {"data": ["name"]},
]
FIELDS = {
    "name": 3,
    "kind": "sound",
    "shape": [64],
    "levels": None,
    "classes": -1,
    "sizes": {"train": "many"},
    "mean": ["a"],
    "columns": [["a", "real", [], 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    "masked": "yes",
    "colour": "red",
}


def edited(folder, text):
    (folder / "config.json").write_text(text, "utf-8")
    return pytest.raises(InputError, match=r"config\.json|not a run|newer")


def test_a_configuration_edited_by_hand_gets_one_line(copy, capsys):
    config = read_config(copy)
    texts = [json.dumps({"format": 1})] + [
        json.dumps(config | change if change else {"format": 1}) for change in EDITS
    ]
    for name, value in FIELDS.items():
        data = config["data"] | {name: value}
        texts.append(json.dumps(config | {"data": data}))
        lacking = {k: v for k, v in config["data"].items() if k != name}
        if name in ("name", "kind", "shape", "sizes"):
            texts.append(json.dumps(config | {"data": lacking}))
    texts += ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", "", "null", "{\0}"]
    for text in texts:
        with edited(copy, text):
            recorded_experiment(copy)
    uses = [
        ("sample", copy, "--out", "s.npz"),
        ("evaluate", copy),
        ("report", copy),
        ("train", "vae", "--dataset", "digits", "--workdir", copy),
    ]
    for words in uses:
        assert "is damaged" in refused(capsys, *words) or "not JSON" in text


numbers = st.integers() | st.floats() | st.integers(-(10**400), 10**400)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5)
json_lists = st.lists(scalars | st.lists(scalars, max_size=2), max_size=4)
json_values = (
    scalars | json_lists | st.dictionaries(st.text(max_size=5), json_lists, max_size=3)
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_any_edit_of_a_configuration_builds_or_gets_one_line(finished, data):
    config = read_config(finished)
    part = data.draw(st.sampled_from([config, config["arguments"], config["data"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(json_values)
    folder = finished.parent / "edited"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    try:
        experiment = recorded_experiment(folder)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert experiment.name == config["preset"]


@pytest.mark.parametrize("name", ["evaluation.json", "timing.jsonl", "diverged.json"])
def test_other_damaged_files_get_one_line(copy, name, capsys):
    for text in ("{", "[]", '{"step": "a"}', '{"message": 3}', '{"step": 1}', "\xff"):
        (copy / name).write_bytes(f"{text}\n{text}\n".encode("latin-1"))
        assert name in refused(capsys, "report", copy)


# Older ones in their place


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"Dense_0")] ^= 2
    path.write_bytes(bytes(raw))


def step_of(folder):
    return int(load(folder)[1].step)


def test_a_flip_in_the_digests_falls_back(copy, caplog):
    damage(copy / "checkpoints" / "8" / "digest" / "metadata")
    assert step_of(copy) == 7
    assert "checkpoints/8 is damaged" in caplog.text


def test_another_model_is_what_all_checkpoints_say(copy):
    config = read_config(copy)
    config["arguments"]["hidden"] = [9]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="checkpoints/8 holds another model"):
        load(copy)


def test_an_older_step_under_a_newer_name_is_not_taken(copy, caplog):
    shutil.copytree(copy / "checkpoints" / "6", copy / "checkpoints" / "9")
    assert step_of(copy) == 8
    assert "it is of step 6" in caplog.text


def test_a_damaged_best_state_falls_back_to_the_newest(copy, caplog):
    shutil.copytree(copy / "checkpoints" / "7", copy / "best" / "7")
    assert step_of(copy) == 7
    shutil.rmtree(copy / "best" / "7" / "state")
    assert step_of(copy) == 8
    assert "the newest of checkpoints/ is taken instead" in caplog.text


def test_reading_changes_nothing(copy):
    trash = copy / "checkpoints" / ".trash" / "5"
    trash.mkdir(parents=True)
    (trash / "state").write_text("5")
    before = content(copy)
    load(copy)
    assert content(copy) == before


def test_a_checkpoint_that_goes_away_while_it_is_read(copy, monkeypatch, caplog):
    """As another process that trains removes it."""
    read = Checkpoints._read

    def late(self, step, abstract):
        if step == 8:
            shutil.rmtree(copy / "checkpoints" / "8")
        return read(self, step, abstract)

    monkeypatch.setattr(Checkpoints, "_read", late)
    assert step_of(copy) == 7
    assert "damaged" not in caplog.text


# Whole or not at all


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path, beside = tmp_path / "notes.html", tmp_path / "notes.tmp"
    path.write_text("old")
    beside.write_text("precious")
    with pytest.raises(OSError, match="full"), written_whole(path) as file:
        file.write(b"new")
        raise OSError(errno.ENOSPC, "disk full")
    assert path.read_text() == "old"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert beside.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [path, beside]
    with pytest.raises(InputError, match="is a folder"):
        write_whole(tmp_path, "new")


def test_a_link_and_the_rights_of_a_file_stay(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_whole(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), whole_folder(out) as made:
        (made / "part").write_text("1")
        _ = 1 / 0
    assert not list(tmp_path.iterdir())
    with whole_folder(out) as made:
        (made / "part").write_text("1")
    assert [p.name for p in out.iterdir()] == ["part"]


def test_samples_are_written_whole_or_not_at_all(copy, tmp_path, monkeypatch):
    out = tmp_path / "s.npz"
    out.write_text("old")

    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)
        with pytest.raises(SystemExit) as stop:
            call("sample", copy, "--num", 3, "--out", out)
    assert stop.value.code == 1
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".vaejax-*"))


def test_numbers_of_a_run_that_cannot_be_written(copy, tmp_path, monkeypatch, capsys):
    def refuses(path, value):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("vaejax.cli.outcome.write_json", refuses)
        call("evaluate", copy, "--samples", 0)
    said = capsys.readouterr()
    assert "negative ELBO" in said.out
    assert "give --out FILE" in said.err
    call("evaluate", copy, "--samples", 0, "--out", tmp_path / "e.json")
    found = json.loads((tmp_path / "e.json").read_text())
    assert f"{-found['elbo']:.2f}" in said.out
    assert not (copy / "evaluation.json").exists()


def test_numbers_of_a_run_that_another_process_writes_to(copy, tmp_path, capsys):
    with held(copy):
        before = content(copy)
        call("evaluate", copy, "--samples", 0)
        said = capsys.readouterr()
        assert "negative ELBO" in said.out
        assert "wrote" not in said.out
        who = f"warning: another process writes to {copy} (process {os.getpid()} on "
        assert said.err.startswith(who)
        assert said.err.endswith("nothing was written; give --out FILE to keep this\n")
        assert said.err.count("\n") == 1
        assert content(copy) == before
        call("evaluate", copy, "--samples", 0, "--out", tmp_path / "e.json")
        assert (tmp_path / "e.json").exists()
    call("evaluate", copy, "--samples", 0)
    assert (copy / "evaluation.json").exists()
    assert (copy / "report.html").exists()
    assert not (copy / NAME).exists()


HANGS = """
import threading, time
from vaejax.cli import parse
parse.is_script = lambda: True
threading.Thread(target=time.sleep, args=(600,)).start()
with parse.errors_in_one_line():
    raise OSError(5, "Input/output error", "run/checkpoints")
"""


def test_threads_of_a_failed_write_are_not_waited_for():
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=300
    )
    line = "error: cannot write or read run/checkpoints: Input/output error\n"
    assert (done.returncode, done.stderr) == (1, line)


# No number that is none


def test_numbers_that_are_none_are_told_and_left_out(tmp_path, capsys):
    values = {"elbo": float("-inf"), "kl": 2.5}
    out = tmp_path / "e.json"
    assert keep_numbers({"split": "test", **values}, values, out, named=True)
    assert json.loads(out.read_text()) == {"split": "test", "kl": 2.5}
    assert "elbo cannot be computed in float32" in capsys.readouterr().err


def test_what_overflows_is_refused_and_no_file_is_written(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 3))
    table[::5, 1] = np.nan
    np.savez(tmp_path / "t.npz", x_train=table)
    run = tmp_path / "run"
    miwae = {"dataset": f"npz:{tmp_path / 't.npz'}", "hidden": (4,), "latents": 1}
    experiment = presets.miwae(**miwae, epochs=1, batch_size=16)
    train(experiment, run, quiet=True, devices=1)
    out = tmp_path / "o.npz"
    words = (run, "--input", tmp_path / "x.npz", "--out", out, "--samples", 10)
    table[5, 0] = 1e39  # float32 has no such number
    np.savez(tmp_path / "x.npz", x=table)
    assert "row 6 of the input has" in refused(capsys, "impute", *words)
    assert not out.exists()
    table[5, 0] = 1e30  # float32 has it, and not its square
    x, mask = np.where(np.isnan(table), 0, table), ~np.isnan(table)
    state = load(run)[1]
    try:
        filled = vaejax.impute(experiment, state, x, mask, jax.random.key(0))
    except InputError as error:
        assert "row 6 of the input has" in str(error)
    else:
        assert np.isfinite(filled.single).all()
    holed = Filled(table, np.zeros((0, *table.shape)), np.ones(len(table)))
    with pytest.raises(InputError, match=r"12 of 60 .*: row 1 of the input has"):
        check_filled(holed, table)
    table[5, 0] = 1.0
    np.savez(tmp_path / "x.npz", x=table)
    here = (run, "--input", tmp_path / "x.npz", "--out", tmp_path / "x.npz")
    assert "--overwrite" in refused(capsys, "impute", *here, "--samples", 10)
    call("impute", *here, "--samples", 10, "--overwrite")
    with np.load(tmp_path / "x.npz") as filled:
        assert np.isfinite(filled["x"]).all()
