"""Data and workdirs in buckets, which a folder of this machine stands for."""

import os
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from vaejax import InputError, load, plots, presets, train
from vaejax.cli.commands import evaluate_run
from vaejax.cli.measuring import EvaluationSettings
from vaejax.data import open_dataset
from vaejax.runtime.jsonlines import read_rows
from vaejax.runtime.preemption import Stopped
from vaejax.runtime.storage import absolute, is_remote, path_of
from vaejax.training.recorder import Recorder

TINY = {
    "dataset": "digits",
    "hidden": (8,),
    "latents": 2,
    "batch_size": 240,
    "epochs": 3,
    "log_every": 2,
    "checkpoint_every": 4,
}


class Buckets(LocalFileSystem):
    """A folder for each bucket; as in a bucket, files do not grow."""

    protocol = ("gs", "gcs", "s3")
    cachable = False
    root = ""

    def __init__(self, **settings):
        super().__init__(auto_mkdir=True)

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path)
        _, found, inside = path.partition("://")
        place = f"/{inside.strip('/')}" if found else path.rstrip("/")
        if not found or place.startswith(cls.root):  # as what it lists does
            return place
        return cls.root + place

    def _open(self, path, mode="rb", **settings):
        assert "a" not in mode, "objects do not grow"
        return super()._open(path, mode, **settings)


@pytest.fixture
def buckets(tmp_path, monkeypatch):
    """The folder that stands for all buckets, for fsspec and for TensorStore."""
    from etils.epath import backend
    from orbax.checkpoint._src.path import gcs_utils

    monkeypatch.setattr(Buckets, "root", str(tmp_path / "buckets"))
    monkeypatch.setattr(
        "vaejax.runtime.storage.LIBRARIES", {k: ("fsspec", k) for k in KINDS}
    )
    for name in Buckets.protocol:
        fsspec.register_implementation(name, Buckets, clobber=True)
    monkeypatch.setattr(
        backend.fsspec_backend, "_get_filesystem", lambda name: Buckets()
    )

    def stored(path):
        # TensorStore's files want the slash of a folder, which buckets do without.
        slash = "" if path.endswith("_sharding") else "/"
        return {"driver": "file", "path": Buckets._strip_protocol(path) + slash}

    monkeypatch.setattr(gcs_utils, "get_kvstore_for_gcs", stored)
    monkeypatch.setattr(
        gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False
    )
    return tmp_path / "buckets"


KINDS = ("gs", "s3")


def tiny(**settings):
    return presets.vae(**TINY | settings)


@pytest.mark.slow
def test_a_run_in_a_bucket_is_the_run_in_a_folder(buckets, tmp_path, monkeypatch):
    report = Recorder.report

    def interrupted(self, step, *reported):
        report(self, step, *reported)
        if step == 6:
            os.kill(os.getpid(), 15)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "report", interrupted)
        with pytest.raises(Stopped, match="saved in gs://bucket/run"):
            train(tiny(), "gs://bucket/run", quiet=True, devices=1)
    train(tiny(), Path("gs://bucket/run"), quiet=True, devices=1)
    train(tiny(), tmp_path / "run", quiet=True, devices=1)
    there, here = load("gs://bucket/run")[1], load(tmp_path / "run")[1]
    jax.tree.map(np.testing.assert_array_equal, there, here)
    for name in ("metrics.jsonl", "config.json"):
        far = (buckets / "bucket" / "run" / name).read_bytes()
        assert far == (tmp_path / "run" / name).read_bytes()
    steps = sorted(p.name for p in (buckets / "bucket/run/checkpoints").glob("*[0-9]"))
    assert steps == ["15", "4", "8"] or len(steps) == 3
    with pytest.raises(InputError, match="gs://bucket/run holds another config"):
        train(tiny(latents=3), "gs://bucket/run", quiet=True, devices=1)


@pytest.mark.slow
def test_what_a_run_in_a_bucket_is_asked(buckets, capsys):
    train(tiny(epochs=1), "gs://bucket/run", quiet=True, devices=1)
    evaluate_run(Path("gs://bucket/run"), EvaluationSettings(samples=0))
    assert "wrote gs://bucket/run/evaluation.json" in capsys.readouterr().out
    (drawn,) = plots.write(Path("gs://bucket/run"), ["curves"])
    assert (buckets / "bucket/run/plots/curves.png").stat().st_size > 0
    assert str(drawn) == "gs://bucket/run/plots/curves.png"


def test_rows_are_there_before_the_checkpoint_of_their_step(buckets, monkeypatch):
    from vaejax.training.checkpoint import Checkpoints

    seen = []
    save = Checkpoints.save

    def looked(self, step, state):
        rows = read_rows(buckets / "bucket" / "run" / "metrics.jsonl")
        seen.append((step, rows[-1]["step"]))
        save(self, step, state)

    monkeypatch.setattr(Checkpoints, "save", looked)
    train(tiny(), "gs://bucket/run", quiet=True, devices=1)
    assert seen
    assert all(step == row for step, row in seen)


def test_files_of_data_in_a_bucket(buckets):
    arrays = {"x_train": np.arange(80, dtype=np.uint8).reshape(20, 2, 2)}
    (buckets / "data").mkdir(parents=True)
    np.savez(buckets / "data" / "a.npz", **arrays)
    (buckets / "data" / "a.csv").write_text("a,b\n" + "1,2\n3,4\n" * 10)
    for kind in KINDS:
        images = open_dataset(f"npz:{kind}://data/a.npz")
        assert images.spec.sizes == {"train": 18, "test": 2}
        table = open_dataset(f"csv:{kind}://data/a.csv")
        assert table.spec.name == f"csv:{kind}://data/a.csv"
        with pytest.raises(InputError, match=f"there is no file {kind}://data/b.npz"):
            open_dataset(f"npz:{kind}://data/b.npz")
        with pytest.raises(InputError, match=f"there is no file {kind}://data/b.csv"):
            open_dataset(f"csv:{kind}://data/b.csv")


def test_a_data_directory_in_a_bucket(buckets, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(buckets / "data"))
    there = open_dataset("digits")
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://data")
    monkeypatch.setattr("vaejax.data.prepare.prepare", None)
    capsys.readouterr()
    assert open_dataset("digits").spec == there.spec
    assert "Copying gs://data/digits/1.0.0 to" in capsys.readouterr().err
    assert open_dataset("digits").spec == there.spec
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("vaejax.data.places.copy_folder", None)  # it is there already
    monkeypatch.setenv("TFDS_DATA_DIR", "gs:/data")
    assert open_dataset("digits").spec == there.spec


def test_paths():
    assert path_of("a/b") == Path("a/b")
    assert absolute("~") == Path.home()
    assert not is_remote(path_of("a/gs:/b"))


@pytest.mark.parametrize("name", ["gs://bucket/run", "gs:/bucket/run"])
def test_a_bucket_needs_its_library(name, monkeypatch):
    monkeypatch.setattr(
        "vaejax.runtime.storage.LIBRARIES", {"gs": ("no_such_module", "gcs")}
    )
    with pytest.raises(InputError, match=r"pip install 'vaejax\[gcs\]'"):
        train(tiny(), name)


def test_checkpoints_do_not_go_to_s3(buckets):
    with pytest.raises(InputError, match="not to s3://; mount the bucket"):
        train(tiny(), "s3://bucket/run")


def test_a_bucket_that_cannot_be_reached(buckets, monkeypatch):
    def refuse(self, path, **settings):
        raise RuntimeError("no credentials\nat all")

    monkeypatch.setattr(Buckets, "info", refuse)
    monkeypatch.setattr(Buckets, "exists", refuse)
    with pytest.raises(InputError, match=r"cannot reach gs://bucket/run \(Runtime"):
        train(tiny(), "gs://bucket/run", quiet=True)
