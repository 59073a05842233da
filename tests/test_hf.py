"""Sets of Hugging Face `datasets` on this disk: pictures, numbers, names of classes."""

import io
import json
import pickle
import socket

import numpy as np
import pytest
from PIL import ExifTags, Image

import vaejax
from vaejax.data import open_dataset
from vaejax.data.hf import open_hf
from vaejax.data.reading import Reading
from vaejax.errors import InputError

hub = pytest.importorskip("datasets")
hub.disable_progress_bars()

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)
NAMES = ["ant", "bee", "cat"]


def picture_bytes(x, **how):
    """A picture as a file has it."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG", **how)
    return {"bytes": file.getvalue(), "path": None}


def pictures(x, y=None, label=None, **others):
    """A set of pictures, and labels of a type."""
    columns = {"image": [picture_bytes(each) for each in x], **others}
    kinds = {"image": hub.Image()}
    if y is not None:
        columns["label"] = list(y)
        kinds["label"] = label or hub.ClassLabel(names=NAMES)
    for name, values in others.items():
        kinds[name] = hub.Value("string" if isinstance(values[0], str) else "float64")
    return hub.Dataset.from_dict(columns, features=hub.Features(kinds))


def saved(found, tmp_path):
    """The name of a set that is written."""
    if isinstance(found, dict):
        found = hub.DatasetDict(found)
    found.save_to_disk(tmp_path / "set")
    return f"hf:{tmp_path / 'set'}"


@pytest.fixture(autouse=True)
def unplugged(monkeypatch):
    """No test may reach a network, nor need one."""

    def refuse(*args):
        raise AssertionError("a network is asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_pictures_and_names_are_those_that_were_saved(tmp_path):
    y = np.arange(20) % 3
    splits = {
        "train": pictures(GREY[:12], y[:12]),
        "valid": pictures(GREY[12:15], y[12:15]),
        "test": pictures(GREY[15:], y[15:]),
        "unsupervised": pictures(GREY[:1], y[:1]),
    }
    data = open_dataset(saved(splits, tmp_path))
    assert data.spec.sizes == {"train": 12, "validation": 3, "test": 5}
    assert data.spec.class_names == tuple(NAMES)
    assert data.spec.remarks[0] == "splits left out: unsupervised"
    for split, rows in (("train", slice(12)), ("test", slice(15, 20))):
        arrays = data.split(split)
        np.testing.assert_array_equal(arrays["x"], GREY[rows].reshape(-1, 30))
        np.testing.assert_array_equal(arrays["y"], y[rows])


def test_a_lone_set_is_split_and_a_selection_is_kept(tmp_path):
    rows = [7, 3, 11, 2, 19, 5, 6, 8, 9, 10]
    found = pictures(GREY).select(rows)
    data = open_dataset(saved(found, tmp_path))
    assert data.spec.sizes == {"train": 9, "test": 1}
    both = np.concatenate([data.split(s)["x"] for s in ("train", "test")])
    wanted = GREY[rows].reshape(-1, 30)
    assert sorted(map(bytes, both)) == sorted(map(bytes, wanted))


def test_pictures_are_made_plain_and_resized_as_those_of_folders(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = picture_bytes(GREY[0], exif=exif)
    rows = hub.Dataset.from_dict(
        {"img": [turned] * 2}, features=hub.Features({"img": hub.Image()})
    )
    data = open_dataset(saved({"train": rows, "test": rows}, tmp_path))
    x = data.split("train")["x"].reshape(2, *data.spec.shape)
    np.testing.assert_array_equal(x[0, ..., 0], GREY[0].T[:, ::-1])
    small = open_dataset(saved_name(tmp_path), reading=Reading(size=3))
    assert small.spec.shape == (3, 3, 1)


def saved_name(tmp_path):
    return f"hf:{tmp_path / 'set'}"


def test_a_stream_is_what_is_in_memory_in_other_processes_too(tmp_path):
    y = np.arange(20) % 3
    name = saved(pictures(GREY, y), tmp_path)
    one, other = (open_dataset(name, reading=Reading(stream=s)) for s in ("no", "yes"))
    assert other.spec.streams
    assert other.spec.class_names == tuple(NAMES)
    for split, count in one.spec.sizes.items():
        sent = pickle.loads(pickle.dumps(other.examples(split)))  # as workers get it
        arrays, _ = sent.read(np.arange(count))
        kept = one.split(split)
        np.testing.assert_array_equal(arrays["x"], kept["x"])
        np.testing.assert_array_equal(arrays["y"], kept["y"])


@pytest.mark.parametrize(
    ("label", "values", "names"),
    [
        (hub.Value("string"), ["b", "a"] * 10, ("a", "b")),
        (hub.Value("int64"), [3, 10] * 10, ("3", "10")),
        (hub.Value("bool"), [True, False] * 10, ("False", "True")),
        (hub.ClassLabel(names=NAMES), [2, 0] * 10, ("ant", "cat")),
        (hub.ClassLabel(names=NAMES), [2, -1] * 10, ()),
    ],
)
def test_labels_keep_their_names(label, values, names, tmp_path):
    data = open_dataset(saved(pictures(GREY, values, label), tmp_path))
    assert data.spec.class_names == names
    if not names:
        assert "no labels are read" in " ".join(data.spec.remarks)
        return
    called = dict(zip(map(bytes, GREY), values, strict=True))
    for split in ("train", "test"):
        arrays = data.split(split)
        for x, y in zip(arrays["x"], arrays["y"], strict=True):
            value = called[bytes(x)]
            wanted = NAMES[value] if "ant" in names else str(value)
            assert names[y] == wanted


def table(**columns):
    return hub.Dataset.from_dict(columns)


def test_numbers_are_a_table_with_names_holes_and_counts(tmp_path):
    r = RNG.normal(5, 2, 20)
    found = table(
        size=[None, *r[1:]],
        visits=list(range(20)),
        sold=[True, False] * 10,
        label=["x", "y"] * 10,
    )
    splits = {"train": found, "test": found, "validation": found}
    name = saved(splits, tmp_path)
    data = open_dataset(name, counts=("visits",))
    columns = [(c.name, c.kind) for c in data.spec.columns]
    assert columns == [("size", "real"), ("visits", "count"), ("sold", "real")]
    assert data.spec.masked
    assert data.spec.class_names == ("x", "y")
    arrays = data.split("validation")
    np.testing.assert_array_equal(arrays["mask"][0], [0, 1, 1])
    np.testing.assert_allclose(
        arrays["x"][1:, 0], (r[1:] - r[1:].mean()) / r[1:].std(), rtol=1e-5
    )
    np.testing.assert_array_equal(arrays["x"][:, 1], np.arange(20))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: table(text=["a"] * 4, n=[1] * 4), r"text \(string\), n \(int64\)"),
        (lambda: table(v=[[1.0, 2.0]] * 4), r"has neither one column of pictures"),
        (lambda: table(label=[1] * 4), r"has neither .* label \(int64\)"),
        (lambda: table(n=[1.0, np.inf] * 4), "infinite"),
        (lambda: table(n=[1.0] * 4, label=["a", None] * 2), "no label in row 1"),
        (lambda: {"test": table(n=[1.0] * 4)}, "no split train: it has test"),
        (
            lambda: {"train": table(n=[1.0] * 4), "test": table(m=[1.0] * 4)},
            "columns of test are not those of train",
        ),
        (
            lambda: pictures(GREY[:4]).add_column("b", [picture_bytes(GREY[0])] * 4),
            None,
        ),
        (
            lambda: (
                pictures(GREY[:4])
                .rename_column("image", "one")
                .add_column("two", [picture_bytes(GREY[0])] * 4)
                .cast_column("two", hub.Image())
            ),
            r"several columns of that kind \(picture\), one, two",
        ),
    ],
)
def test_columns_that_are_not_understood_are_listed(make, says, tmp_path):
    name = saved(make(), tmp_path)
    if says is None:
        assert open_dataset(name).spec.remarks[0] == "columns left out: b"
        return
    with pytest.raises(InputError, match=says) as raised:
        open_dataset(name)
    assert "\n" not in str(raised.value)


def test_a_damaged_picture_is_named(tmp_path):
    rows = [picture_bytes(GREY[0])] * 3 + [{"bytes": b"no picture", "path": None}]
    features = hub.Features({"image": hub.Image()})
    name = saved(hub.Dataset.from_dict({"image": rows}, features=features), tmp_path)
    with pytest.raises(InputError, match=r"row 3 of split 'train' of hf:.* is damaged"):
        open_dataset(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("owner/nothing", "is not in the cache .*load_dataset..owner/nothing"),
        ("./nowhere", "no data set that save_to_disk has written"),
        ("a b", "no data set that save_to_disk has written"),
        ("gs://b/c", "gs://b/c"),
    ],
)
def test_what_is_not_on_this_disk_is_refused(name, says, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(InputError, match=says) as raised:
        open_hf(name, (), Reading())
    assert "\n" not in str(raised.value)


def test_damage_on_disk_is_a_line(tmp_path):
    name = saved(table(n=[1.0] * 4), tmp_path)
    next((tmp_path / "set").glob("*.arrow")).write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(name)


def cache(folder, config, x):
    """A set as `datasets` keeps one of the hub, by its own writer."""
    place = folder / "owner___some_set" / config / "0.0.0" / "abc"
    rows = pictures(x, np.arange(len(x)) % 3)
    place.mkdir(parents=True)
    path = place / "some_set-train.arrow"
    with hub.arrow_writer.ArrowWriter(features=rows.features, path=str(path)) as writer:
        for row in rows.cast_column("image", hub.Image(decode=False)):
            writer.write(row)
        count, size = writer.finalize()
    info = hub.DatasetInfo(
        features=rows.features,
        builder_name="parquet",
        dataset_name="some_set",
        config_name=config,
        version="0.0.0",
        splits=hub.SplitDict(
            {"train": hub.SplitInfo("train", size, count, dataset_name="some_set")}
        ),
    )
    info.write_to_directory(str(place))


def test_a_cached_set_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path)
    cache(tmp_path, "small", GREY[:10])
    data = open_dataset("hf:owner/some_set")
    assert data.spec.sizes == {"train": 9, "test": 1}
    assert data.spec.class_names == tuple(NAMES)
    cache(tmp_path, "large", GREY)
    with pytest.raises(InputError, match="name a configuration as hf:NAME:CONFIG"):
        open_dataset("hf:owner/some_set")
    data = open_dataset("hf:owner/some_set:large")
    assert data.spec.name == "hf:owner/some_set:large"
    both = np.concatenate([data.split(s)["x"] for s in ("train", "test")])
    assert sorted(map(bytes, both)) == sorted(map(bytes, GREY.reshape(20, -1)))


def test_a_run_on_such_a_set_is_loaded_again(tmp_path):
    y = np.arange(20) % 3
    name = saved(pictures(GREY, y), tmp_path)
    model = vaejax.presets.classifier(dataset=name, hidden=(4,), epochs=1, batch_size=8)
    vaejax.train(model, tmp_path / "run", quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["names"] == NAMES
    again, _ = vaejax.load(tmp_path / "run")
    np.testing.assert_array_equal(
        again.dataset.split("test")["x"], model.dataset.split("test")["x"]
    )
