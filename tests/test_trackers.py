"""Trackers: what they are told, what a kill does to them, what they cannot break."""

import json
import logging
import shutil
import struct
from pathlib import Path

import pytest

from tests.test_scripts import call, refused
from vaejax import InputError, presets, study, train
from vaejax.runtime.jsonlines import read_rows
from vaejax.training.tracker_services import named_by_split
from vaejax.training.trackers import (
    NAME,
    Tracking,
    card_numbers,
    chosen_trackers,
    read_identity,
    track_evaluation,
)

TINY = {
    "dataset": "digits",
    "hidden": (4,),
    "latents": 2,
    "batch_size": 719,  # an epoch is two steps
    "evaluate_every": 1,
    "checkpoint_every": 1,
    "epochs": 3,
    "decay": "constant",
}
QUIET = {"quiet": True, "devices": 1}


def tiny(**settings):
    return presets.vae(**TINY | settings)


class Notes:
    """A tracker of one's own, which notes what it is told."""

    def __init__(self, failing=""):
        self.failing, self.rows, self.calls, self.run = failing, [], [], None

    def called(self, name):
        self.calls.append(name)
        if name == self.failing:
            raise ConnectionError("the network is down")

    def begin(self, run):
        self.run = run
        self.called("begin")

    def write(self, step, split, metrics):
        self.rows.append({"step": step, "split": split, **metrics})
        self.called("write")

    def sync(self):
        self.called("sync")

    def summarize(self, numbers):
        self.numbers = numbers
        self.called("summarize")

    def close(self):
        self.called("close")


def logged(folder):
    return read_rows(folder / "metrics.jsonl")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A finished run, and the tracker that followed it."""
    folder, notes = tmp_path_factory.mktemp("tracked") / "run", Notes()
    train(tiny(), folder, **QUIET, trackers=(notes,))
    return folder, notes


@pytest.fixture
def killed(tracked, tmp_path):
    """The run as a kill leaves it: two checkpoints behind its log."""
    folder = Path(shutil.copytree(tracked[0], tmp_path / "run"))
    for step in (4, 6):
        shutil.rmtree(folder / "checkpoints" / str(step))
    return folder


def test_a_tracker_gets_the_log_and_the_card(tracked):
    folder, notes = tracked
    assert notes.rows == logged(folder)
    assert notes.calls[0] == "begin"
    assert notes.calls[-2:] == ["summarize", "close"]
    assert (notes.run.name, notes.run.step, notes.run.rows) == ("run", 0, [])
    config = json.loads((folder / "config.json").read_text())
    told = dict(notes.run.config)
    environment = told.pop("environment")
    assert told == {**config["arguments"], "preset": "vae", "data": config["data"]}
    assert environment == {
        n: v
        for n, v in read_rows(folder / "environment.jsonl")[0].items()
        if n not in ("step", "split")
    }
    last = logged(folder)[-1]
    assert notes.numbers["evaluation/elbo"] == last["elbo"]
    assert notes.numbers["evaluation/elbo_se"] == last["elbo_se"]
    assert notes.numbers["status"] == "finished: 6 steps, 3 epochs"
    assert not (folder / "tensorboard").exists()


def test_a_run_that_goes_on_has_the_same_id_and_tells_its_past(killed, tracked):
    notes = Notes()
    train(tiny(), killed, **QUIET, trackers=(notes,))
    assert notes.run.id == tracked[1].run.id
    assert notes.run.step == 2
    assert notes.run.rows == [row for row in logged(killed) if row["step"] <= 2]
    assert [*notes.run.rows, *notes.rows] == logged(killed) == tracked[1].rows


def test_a_finished_run_is_not_tracked_again(tracked):
    notes = Notes()
    train(tiny(), tracked[0], **QUIET, trackers=(notes,))
    assert notes.calls == []


@pytest.mark.parametrize("failing", ["begin", "write", "sync", "summarize", "close"])
def test_a_tracker_that_fails_is_left_out_of_what_follows(failing, tmp_path, caplog):
    bad, good = Notes(failing), Notes()
    tracking = Tracking({"bad": bad, "good": good})
    with caplog.at_level(logging.WARNING):
        tracking.begin(tmp_path, 0, {}, [])
        tracking.write(2, "train", {"loss": 1.0})
        tracking.sync()
        tracking.close(tmp_path)
    (record,) = caplog.records
    assert record.getMessage() == (
        "bad tracks no longer, the run goes on: ConnectionError: the network is down"
    )
    assert bad.calls[-1] == failing
    assert good.calls == ["begin", "write", "sync", "summarize", "close"]


def test_a_training_outlives_its_tracker(caplog):
    with caplog.at_level(logging.WARNING):
        state = train(tiny(epochs=1), **QUIET, trackers=(Notes("write"),))
    assert int(state.step) == 2
    assert "the network is down" in caplog.text


def test_trackers_are_chosen_by_name(tmp_path, monkeypatch):
    assert [*chosen_trackers(("auto",), tmp_path)] == ["tensorboard"]
    assert not chosen_trackers(("auto",), None)
    assert not chosen_trackers(("none",), tmp_path)
    assert [*chosen_trackers((Notes(), "tensorboard"), tmp_path)][1] == "tensorboard"
    for named, said in (
        (("wandbb",), "--track wandbb is unknown: did you mean wandb"),
        (("none", "auto"), "none goes with no other"),
        (("auto", "auto"), "name each tracker once"),
        ("wandb", r"give \('wandb',\)"),
    ):
        with pytest.raises(InputError, match=said):
            chosen_trackers(named, tmp_path)
    with pytest.raises(InputError, match="give a local workdir"):
        chosen_trackers(("tensorboard",), None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("tensorboard", "wandb", "trackio"):
        with pytest.raises(InputError, match=rf"pip install 'vaejax\[{name}\]'"):
            chosen_trackers((name,), tmp_path)
    assert not chosen_trackers(("auto",), tmp_path)


def test_the_command_says_what_is_unknown_before_it_makes_a_folder(tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["--dataset", "digits", "--workdir", folder, "--track", "clearml"]
    line = refused(capsys, "train", "vae", *words)
    assert line.startswith("error: --track clearml is unknown: choose of tensorboard, ")
    assert not folder.exists()


def test_a_damaged_record_is_said(tracked, tmp_path):
    folder, notes = tracked
    assert read_identity(folder).id == notes.run.id
    for content in (
        "{}}",
        '{"id": 3}',
        '{"id": "a", "project": "b", "trackers": ["c"]}',
    ):
        (tmp_path / NAME).write_text(content)
        with pytest.raises(InputError, match=NAME):
            read_identity(tmp_path)


def test_numbers_of_a_card_without_an_evaluation():
    training = {"status": "not finished", "step": 3, "seconds": None}
    card = {"training": training, "parameters": 7, "evaluation": None}
    assert card_numbers(card) == {"status": "not finished", "step": 3, "parameters": 7}


# The services themselves, where they are installed.


def by_step(rows):
    """As Weights & Biases keeps a log: one row a step, names with their splits."""
    found = {}
    for row in rows:
        metrics = {n: v for n, v in row.items() if n not in ("step", "split")}
        found.setdefault(row["step"], {}).update(named_by_split(row["split"], metrics))
    return found


def wandb_records(path):
    """The records of a .wandb file: LevelDB's log format, after seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, position, joined = path.read_bytes(), 7, b""
    while position < len(content):
        room = 32768 - position % 32768
        if room < 7:
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        joined += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(joined)
            joined = b""
            yield record


def offline_runs(folder):
    """(id, history by step, summary) of each folder that wandb wrote, oldest first."""
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        history, summary, name = {}, {}, ""
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.run_id
            if kind == "history":
                items = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                step = record.history.step.num
                history[step] = {n: v for n, v in items.items() if n[0] != "_"}
            if kind == "summary":
                for item in record.summary.update:
                    key = item.key or "/".join(item.nested_key)
                    summary[key] = json.loads(item.value_json)
        yield name, history, summary


def test_wandb_offline_holds_each_row_once_after_a_kill(killed, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (killed / NAME).unlink()
    train(tiny(), killed, **QUIET, trackers=("wandb",))
    known = read_identity(killed)
    assert known.trackers == ("wandb",)
    ((name, history, summary),) = offline_runs(killed)
    assert name == known.id
    assert history == by_step(logged(killed))
    assert summary["status"] == "finished: 6 steps, 3 epochs"

    call("evaluate", killed, "--samples", 0)
    *_, (again, history, summary) = offline_runs(killed)
    assert again == known.id
    assert history == by_step(logged(killed))
    record = json.loads((killed / "evaluation.json").read_text())
    assert summary["evaluation/elbo"] == record["elbo"]


def test_trackio_holds_each_row_once_after_a_kill(tracked, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    for module in ("trackio.sqlite_storage", "trackio.utils"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "trackio")
    folder = tmp_path / "run"
    train(tiny(), folder, **QUIET, trackers=("trackio",))
    shutil.rmtree(folder / "checkpoints" / "6")
    shutil.rmtree(folder / "checkpoints" / "4")
    train(tiny(), folder, **QUIET, trackers=("trackio",))
    (run,) = trackio.Api().runs("vaejax")
    assert run.name == f"run-{read_identity(folder).id}"
    assert run.config["hidden"] == [4]
    found = [
        {n: v for n, v in row.items() if n != "timestamp"}
        for row in SQLiteStorage.get_logs("vaejax", run.name, run_id=run.id)
    ]
    assert found == [flat(row) for row in logged(folder)]

    (folder / "evaluation.json").write_text(
        json.dumps({"split": "test", "samples": 0, "step": 6, "elbo": -3.0})
    )
    (folder / "card.json").unlink()
    train(tiny(), folder, **QUIET)  # makes the card
    track_evaluation(folder)
    last = SQLiteStorage.get_logs("vaejax", run.name, run_id=run.id)[-1]
    assert (last["step"], last["evaluation/elbo"]) == (6, -3.0)


def flat(row):
    metrics = {n: v for n, v in row.items() if n not in ("step", "split")}
    return {"step": row["step"], **named_by_split(row["split"], metrics)}


class Service:
    """Weights & Biases as far as `Wandb` knows it, with a server that keeps rows."""

    def __init__(self):
        self.kept, self.asked = {}, []

    def Settings(self, **given):
        return given

    def init(self, **given):
        self.asked.append(given)
        return Opened(self.kept.setdefault(given["id"], []))


class Opened:
    offline, url = False, "https://example.org/run"

    def __init__(self, rows):
        self.rows, self.summary = rows, {}
        self.starting_step = rows[-1][0] + 1 if rows else 0

    def log(self, metrics, step):
        self.rows.append((step, metrics))

    def finish(self):
        pass


def test_a_service_that_has_rows_gets_what_it_lacks_and_no_row_twice(
    killed, tracked, monkeypatch
):
    """The server had all up to step 4, when the last checkpoint was of step 2."""
    service = Service()
    monkeypatch.setitem(__import__("sys").modules, "wandb", service)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    (killed / NAME).unlink()
    full = [(row["step"], named(row)) for row in tracked[1].rows]
    train(tiny(), killed, **QUIET, trackers=("wandb",))
    (rows,) = service.kept.values()
    assert rows == full
    for step in (4, 6):
        shutil.rmtree(killed / "checkpoints" / str(step))
    del rows[-2:]  # what the process that was killed had not sent
    monkeypatch.setenv("WANDB_PROJECT", "another")
    train(tiny(), killed, **QUIET, trackers=("wandb",))
    assert rows == full
    assert {each["project"] for each in service.asked} == {"mine"}
    assert [each["dir"] for each in service.asked] == [str(killed)] * 2


def named(row):
    metrics = {n: v for n, v in row.items() if n not in ("step", "split")}
    return named_by_split(row["split"], metrics)


@pytest.mark.slow
def test_replicas_of_a_study_are_runs_of_one_group(tmp_path, monkeypatch):
    service = Service()
    monkeypatch.setitem(__import__("sys").modules, "wandb", service)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    given = {**TINY, "epochs": 1, "trackers": ("wandb",)}
    study(presets.vae, tmp_path / "both", seeds=2, devices=1, quiet=True, **given)
    names = [(each["name"], each["group"]) for each in service.asked]
    assert names == [("seed=0", "both"), ("seed=1", "both")]
    for seed, rows in enumerate(service.kept.values()):
        folder = tmp_path / "both" / f"seed={seed}"
        assert rows == [(row["step"], named(row)) for row in logged(folder)]
