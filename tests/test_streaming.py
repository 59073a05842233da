"""Images that stream: the same run as from memory, on every host, named errors."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.test_hosts import assert_same_run as same_but_for_sums
from tests.test_hosts import ended, hosts, start, wait_for
from vaejax import InputError, load, parallel, presets, train
from vaejax.data import open_dataset, streaming
from vaejax.data.batches import Batches
from vaejax.data.examples import Examples
from vaejax.data.feed import Shuffled
from vaejax.data.pictures import Frame, decode_picture
from vaejax.data.reading import Reading
from vaejax.data.shards import files_of
from vaejax.data.streaming import AHEAD, Stream, cores, feed_of, own_rows
from vaejax.runtime.jsonlines import read_rows
from vaejax.runtime.preemption import Stopped
from vaejax.training.advance import Stepper
from vaejax.training.evaluator import held_out_examples
from vaejax.training.recorder import Recorder

pytestmark = pytest.mark.devices

WAIT = 0.2
"""Seconds that a step waits for images in a test."""
STREAM = Reading(stream="yes")
MOVED = Reading(crop=2, flip=True)
TINY = {
    "dataset": "postcards",
    "hidden": (8,),
    "latents": 2,
    "batch_size": 16,
    "epochs": 4,
    "log_every": 3,
    "evaluate_every": 1,
    "checkpoint_every": 3,
}


def jpeg(number: int, size: tuple[int, int] = (6, 5)) -> io.BytesIO:
    """A picture of its own."""
    x = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=90)
    file.seek(0)
    return file


def prepare(name, size, rows, test, folder, encoding="jpeg"):
    """A TFDS set of images and labels, in two files."""

    def info(self):
        image = tfds.features.Image(shape=(*size, 3), encoding_format=encoding)
        label = tfds.features.ClassLabel(num_classes=3)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def splits(self, dl_manager):
        return {"train": iter(enumerate(rows)), "test": iter(enumerate(test))}

    fields = {
        "name": name,
        "VERSION": tfds.core.Version("1.0.0"),
        "pkg_dir_path": Path(__file__).parent,
        "_info": info,
        "_split_generators": splits,
        "_generate_examples": None,
    }
    # A worker may come to this module twice: names are not to be taken then.
    base = tfds.core.GeneratorBasedBuilder
    builder = type(name, (base,), fields, skip_registration=True)
    config = tfds.download.DownloadConfig(num_shards=2)
    builder(data_dir=folder, file_format="array_record").download_and_prepare(
        download_config=config
    )


def info_of(folder: Path):
    return tfds.builder_from_directory(folder).info


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Sets of 56 and 11 images: all of one size, and of many."""
    folder = tmp_path_factory.mktemp("tfds")

    def rows(start, stop, size_of):
        for n in range(start, stop):
            yield {"image": jpeg(n, size_of(n)), "label": n % 3}

    alike, various = lambda n: (6, 5), lambda n: (9 + n % 4, 14 - n % 3)
    for name, size, size_of in (
        ("postcards", (6, 5), alike),
        ("snapshots", (None, None), various),
    ):
        prepare(name, size, rows(0, 56, size_of), rows(56, 67, size_of), folder)
    return folder


@pytest.fixture(autouse=True)
def place(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own_files(prepared, tmp_path, monkeypatch):
    """A copy of the sets that a test may damage; the folder of `postcards`."""
    shutil.copytree(prepared, tmp_path / "own", ignore=shutil.ignore_patterns("vaejax"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    return tmp_path / "own" / "postcards" / "1.0.0"


def tiny(**settings):
    return presets.vae(**TINY | settings)


def assert_same_run(one, other):
    """Parameters and metrics, bit for bit."""
    (_, a), (_, b) = load(one), load(other)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    read = [(path / "metrics.jsonl").read_bytes() for path in (one, other)]
    assert read[0] == read[1]


def no_threads_left():
    return not any("_fill" in t.name for t in threading.enumerate())


@pytest.fixture(scope="module")
def resident(prepared, tmp_path_factory):
    """A run from memory, of two devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(prepared))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("run") / "resident"
        train(tiny(stream="no"), folder, quiet=True, devices=2)
    return folder


def test_a_streamed_run_is_the_resident_run(resident, tmp_path):
    experiment = tiny(stream="yes")
    assert experiment.dataset.spec.streams
    train(experiment, tmp_path / "run", quiet=True, devices=2)
    assert_same_run(tmp_path / "run", resident)
    assert no_threads_left()
    shown = [held_out_examples(load(f)[0], 5) for f in (tmp_path / "run", resident)]
    jax.tree.map(np.testing.assert_array_equal, *shown)


def test_processes_decode_the_same(resident, tmp_path):
    experiment = tiny(stream="yes")
    train(experiment, tmp_path / "run", quiet=True, devices=2, workers=2)
    assert_same_run(tmp_path / "run", resident)


@pytest.mark.parametrize(
    "settings", [{"parallel": "shard_map"}, {"parallel": "pmap"}, {"fsdp": 2}], ids=str
)
def test_it_is_so_however_devices_share_a_batch(settings):
    states = [
        train(tiny(stream=stream, epochs=1, **settings), quiet=True, devices=2)
        for stream in ("yes", "no")
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    resident, tmp_path, monkeypatch
):
    report = Recorder.report

    def interrupted(self, step, *reported):
        report(self, step, *reported)
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = {"stream": "yes", "log_every": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", interrupted)
        with pytest.raises(Stopped, match="at step 5"):
            train(tiny(**settings), tmp_path / "run", quiet=True, devices=2)
    assert no_threads_left()
    train(tiny(**settings), tmp_path / "run", quiet=True, devices=2)
    states = [load(folder)[1] for folder in (tmp_path / "run", resident)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_the_share_of_time_without_data_is_kept(tmp_path, monkeypatch, capsys):
    """One thread reads a batch `WAIT` after a step has asked for it, and none ahead."""
    read, take, asked = Examples.read, Stepper._take, threading.Semaphore(0)

    def when_asked(self, rows, u=None):
        if len(self) == 56:  # of training
            asked.acquire()
        return read(self, rows, u)

    def asking(self, *steps):
        threading.Timer(WAIT, asked.release).start()
        return take(self, *steps)

    monkeypatch.setattr(streaming, "cores", lambda: 1)
    monkeypatch.setattr(Examples, "read", when_asked)
    monkeypatch.setattr(Stepper, "_take", asking)
    settings = {"stream": "yes", "epochs": 6, "evaluate_every": 6}
    train(tiny(**settings), tmp_path / "run", devices=1)
    rows = list(read_rows(tmp_path / "run" / "timing.jsonl"))
    seconds = np.diff([0.0, *(row["seconds"] for row in rows)])
    waiting = np.array([row["waiting"] for row in rows])
    assert len(rows) == 6 and ((waiting >= 0) & (waiting <= 1)).all()
    # Three steps each; the first of all starts the reader, which is no waiting.
    assert (waiting * seconds > 0.99 * WAIT * np.array([2, 3, 3, 3, 3, 3])).all()
    assert "of the time waiting for data" in capsys.readouterr().err


def shape_of(array):
    return array.shape, array.dtype


@pytest.mark.parametrize("seed", [0, 3])
def test_batches_are_those_from_memory_whatever_is_taken_first(seed):
    mesh, order = parallel.make_mesh(4, 8), Shuffled(56, 8, seed)
    feeds = [
        feed_of(open_dataset("postcards", reading=reading), "train", order, 20, mesh)
        for reading in (STREAM, Reading(stream="no"))
    ]
    for step in (0, 1, 2, 15, 16, 3, 19, 0):
        seen = []
        for feed in feeds:
            x = parallel.row(feed.take(step, step + 1), 0)
            assert jax.tree.map(shape_of, x) == jax.tree.map(shape_of, feed.one)
            seen.append(feed.select(feed.resident, x))
        jax.tree.map(np.testing.assert_array_equal, *seen)
    feeds[0].close()
    assert no_threads_left()


def test_two_batches_are_ready_beside_the_one_in_use():
    taken = []

    class Counted(Batches):
        def __call__(self, step):
            taken.append(step)
            return super().__call__(step)

    examples = open_dataset("postcards", reading=STREAM).examples("train")
    mesh = parallel.make_mesh(2, 4)
    order, own = Shuffled(56, 4, 0), np.arange(4)
    stream = Stream(Counted(examples, order, own), 100, parallel.rows(mesh, 1))
    batch = stream.take(0, 1)
    assert {d for a in batch.values() for d in a.devices()} == set(mesh.devices.flat)
    time.sleep(1)
    threads = min(cores(), 16)
    assert 3 <= len(taken) <= 1 + AHEAD + threads + 1
    stream.close()


class Host:
    """What one of two hosts sees of a sharding over four devices."""

    def __init__(self, sharding, number):
        self.sharding, self.number = sharding, number

    def addressable_devices_indices_map(self, shape):
        parts = list(self.sharding.devices_indices_map(shape).items())
        return dict(parts[2 * self.number : 2 * self.number + 2])


def test_each_host_decodes_its_rows_only():
    rows = parallel.rows(parallel.make_mesh(4, 8))
    own = [own_rows(Host(rows, number), 8) for number in (0, 1)]
    assert [each.tolist() for each in own] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert own_rows(rows, 8).tolist() == list(range(8))
    examples = open_dataset("postcards", reading=MOVED).examples("train")
    order = Shuffled(56, 8, 0)
    whole, *parts = (
        Batches(examples, order, rows, seed=5)(9).arrays
        for rows in (np.arange(8), *own)
    )
    for name, array in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(array, joined)


def test_two_hosts_train_as_one_from_memory(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    open_dataset("digits")
    flags = ["--epochs", "2", "--workdir"]
    alone = start([*flags, str(tmp_path / "alone")], 1)
    assert ended([alone])[0] == [0]
    both = hosts([*flags, str(tmp_path / "both"), "--stream", "yes"])
    codes, said = ended(both)
    assert codes == [0, 0], said
    same_but_for_sums(tmp_path / "both", tmp_path / "alone")


def test_augmentation_is_of_seed_and_step_and_of_training_alone():
    data = open_dataset("postcards", reading=MOVED)
    assert data.spec.shape == (4, 3, 3)
    examples, own = data.examples("train"), np.arange(8)
    order = Shuffled(56, 8, 0)
    first, again, other, still = (
        Batches(examples, order, own, seed)(2).arrays["x"] for seed in (1, 1, 2, None)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != still).any()
    plain = open_dataset("postcards", reading=STREAM).examples("train")
    middle = plain.read(order.rows(2))[0]["x"].reshape(8, 6, 5, 3)[:, 1:-1, 1:-1]
    np.testing.assert_array_equal(still, middle.reshape(8, -1))


def test_crops_and_flips_reach_every_place():
    x = np.arange(16, dtype=np.uint8).reshape(4, 4)
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG")
    frame = Frame((3, 3, 1), 0, 1, True)
    seen = {
        decode_picture(file.getvalue(), frame, np.array([top, left, side])).tobytes()
        for top in (0.0, 0.999)
        for left in (0.0, 0.999)
        for side in (0.0, 0.999)
    }
    crops = [x[t : t + 3, s : s + 3] for t in (0, 1) for s in (0, 1)]
    assert seen == {c.tobytes() for crop in crops for c in (crop, crop[:, ::-1])}


@pytest.mark.parametrize("stream", ["yes", "no"])
def test_images_of_many_sizes_become_one(stream):
    with pytest.raises(InputError, match=r"different sizes.*set --image-size"):
        open_dataset("snapshots", reading=Reading(stream))
    data = open_dataset("snapshots", reading=Reading(stream, size=4))
    assert data.spec.shape == (4, 4, 3)
    assert data.some("test", np.arange(3))["x"].shape == (3, 48)


def test_validation_is_held_out_alike():
    held = [
        open_dataset("postcards", 0.25, reading=reading)
        for reading in (STREAM, Reading(stream="no"))
    ]
    assert held[0].spec.sizes == held[1].spec.sizes
    for split, size in held[0].spec.sizes.items():
        both = [data.some(split, np.arange(size)) for data in held]
        jax.tree.map(np.testing.assert_array_equal, *both)


def test_what_is_large_streams_by_itself(monkeypatch):
    assert not open_dataset("postcards").spec.streams
    monkeypatch.setattr("vaejax.data.reading.LIMIT", 56 * 90 - 1)
    assert open_dataset("postcards").spec.streams


def test_black_and_white_images_stay_so(tmp_path, monkeypatch):
    def row(number, level=255):
        x = level * np.random.default_rng(number).integers(0, 2, (4, 4, 3))
        file = io.BytesIO()
        Image.fromarray(x.astype(np.uint8)).save(file, "PNG")
        file.seek(0)
        return {"image": file, "label": 0}

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare("inks", (4, 4), map(row, range(90)), map(row, range(9)), tmp_path, "png")
    data = open_dataset("inks", reading=STREAM)
    assert data.spec.levels == 2
    assert set(np.unique(data.some("train", np.arange(90))["x"])) == {0, 1}


# What goes wrong.


def damage(folder: Path) -> None:
    """Turns a bit among the records of the second training file."""
    file = folder / "postcards-train.array_record-00001-of-00002"
    content = bytearray(file.read_bytes())
    content[3000] ^= 1
    file.write_bytes(content)


CORRUPT = (
    r"record (\d+) of split 'train' \(.*postcards-train.array_record-00001-of-00002, "
    r"number (\d+)\) is corrupt \(RuntimeError: .*mismatch"
)


def test_records_read_together_are_those_read_alone():
    """In any order, over both files, some of them twice."""
    examples = open_dataset("postcards", reading=STREAM).examples("train")
    rows = np.random.default_rng(0).permutation(len(examples)).repeat(2)[:31]
    arrays, notes = examples.read(rows)
    alone = [examples.example(row) for row in rows.tolist()]
    np.testing.assert_array_equal(arrays["x"], [x.ravel() for x, _, _ in alone])
    np.testing.assert_array_equal(arrays["y"], [record.label for _, record, _ in alone])
    assert not notes


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_record_is_named(own_files, tmp_path, workers):
    experiment = tiny(stream="yes")
    damage(own_files)
    with pytest.raises(InputError, match=CORRUPT) as raised:
        train(experiment, tmp_path / "run", quiet=True, workers=workers)
    found = re.search(CORRUPT, str(raised.value))
    assert found is not None
    first = files_of(info_of(own_files), "train")[0][1]
    assert int(found[1]) - int(found[2]) == first
    assert "\n" not in str(raised.value)
    assert "--skip-corrupt" in str(raised.value)
    assert no_threads_left()


def test_another_record_stands_in_on_request(own_files, tmp_path, caplog):
    damage(own_files)
    train(tiny(stream="yes", skip_corrupt=True), tmp_path / "run", quiet=True)
    (line,) = [r.getMessage() for r in caplog.records if "stands for" in r.getMessage()]
    found = re.search(CORRUPT, line)
    assert found is not None
    assert f"record {int(found[1]) + 1} of split" in line
    assert line.endswith("stands for it (1 so far)")


def test_a_lost_file_is_not_skipped(own_files, monkeypatch):
    monkeypatch.setattr("vaejax.data.examples.REACH", 20)
    file = own_files / "postcards-train.array_record-00001-of-00002"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="and so are 19 after it: prepare the set"):
        open_dataset("postcards", reading=Reading("yes", skip=True))


def test_an_image_that_is_none_is_named(prepared, tmp_path, monkeypatch):
    rows = [{"image": io.BytesIO(b"no image"), "label": 0}] * 4
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare("words", (4, 4), iter(rows), iter(rows), tmp_path)
    with pytest.raises(InputError, match=r"record 0 .*\(ValueError: it is no image\)"):
        open_dataset("words", reading=STREAM)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_with_the_run(tmp_path, signum):
    workdir = tmp_path / "run"
    flags = "vae --dataset postcards --stream yes --workers 2 --hidden 8 --batch-size 8"
    more = f"--epochs 100000 --log-every 2 --devices 1 --workdir {workdir}"
    script = Path(__file__).parent.parent / "scripts" / "train.py"
    process = subprocess.Popen(
        [sys.executable, str(script), *flags.split(), *more.split()],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: read_rows(workdir / "metrics.jsonl"), [process])
        if signum == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, signum)  # as a terminal or Slurm sends it
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    if signum == signal.SIGTERM:
        assert process.returncode == 128 + signum
        assert re.search(r"stopped by SIGTERM at step \d+, saved in", said)
        assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)


def members(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, of, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            found += [int(folder.name)] if int(of) == group and state != "Z" else []
    return found


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"dataset": "breast_cancer", "stream": "yes"}, "for TFDS sets of images"),
        ({"dataset": "postcards", "random_crop": -1}, "must be at least 0"),
        ({"dataset": "postcards", "random_crop": 5}, "leaves nothing"),
        (
            {"dataset": "postcards", "random_flip": True, "stream": "no"},
            "leave out --stream no",
        ),
        (
            {"dataset": "postcards", "stream": "yes", "hide": "mcar"},
            "needs postcards whole: --stream no",
        ),
    ],
)
def test_settings_that_do_not_fit(settings, fragment):
    with pytest.raises(InputError, match=fragment):
        presets.vae(**settings)
