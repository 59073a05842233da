"""Opening data sets: our builders, other TFDS sets, files, arrays, and the cache."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vaejax.data import Dataset, Spec, from_arrays, open_dataset
from vaejax.data.builders import VERSIONS
from vaejax.data.places import find, parse_name
from vaejax.data.splits import fixed_permutation
from vaejax.errors import InputError

GOLDEN = {
    "mnist_5k": ((4000, 1000), [100] * 10, "48c8017204f0f896fdb72dc3f0cf965c"),
    "digits": (
        (1438, 359),
        [36, 36, 35, 37, 36, 36, 36, 36, 35, 36],
        "d31eba74d6d3f114156c988f344b4ad0",
    ),
    "breast_cancer": ((456, 113), [42, 71], "63c56a7642d652defa22c0ea9f554d8a"),
}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """One data directory for all workers, which may prepare sets in it at once."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "tfds"


@pytest.fixture(autouse=True)
def place(prepared, tmp_path, monkeypatch):
    """Nothing outside pytest's folders is read or written."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def data_dir(prepared, tmp_path, monkeypatch):
    """A data directory of one test's own, with `digits` prepared but not cached."""
    open_dataset("digits")
    own = tmp_path / "own"
    here = shutil.ignore_patterns("vaejax", ".vaejax*")
    shutil.copytree(prepared / "digits", own / "digits", ignore=here)
    monkeypatch.setenv("TFDS_DATA_DIR", str(own))
    return own


def same(a: Dataset, b: Dataset) -> bool:
    return a.spec == b.spec and all(
        np.array_equal(array, b.split(split)[key])
        for split in a.spec.sizes
        for key, array in a.split(split).items()
    )


def no_decoding(*_):
    raise AssertionError("the cache was not used")


@pytest.mark.parametrize("name", GOLDEN)
def test_our_builders(name):
    from vaejax.data.decode import decode_splits

    sizes, test_labels, digest = GOLDEN[name]
    data = open_dataset(name)
    spec = data.spec
    assert spec.name == name
    assert tuple(spec.sizes[split] for split in ("train", "test")) == sizes
    assert spec.digest == digest
    assert spec.classes == len(test_labels)
    for split in spec.sizes:
        arrays = data.split(split)
        assert arrays["x"].shape == (spec.sizes[split], np.prod(spec.shape))
        assert arrays["x"].dtype == (np.uint8 if spec.kind == "image" else np.float32)
        assert arrays["y"].dtype == np.int32
    assert np.bincount(data.split("test")["y"]).tolist() == test_labels
    folder = find(parse_name(name))
    assert folder is not None
    assert (
        decode_splits(name, folder).spec.digest == digest
    )  # from the records, not the cache


def test_images_of_our_builders_use_all_grey_levels():
    for name in ("mnist_5k", "digits"):
        data = open_dataset(name)
        x = data.split("train")["x"]
        assert (data.spec.levels, x.min(), x.max()) == (256, 0, 255)


def test_a_cached_set_opens_without_heavy_imports():
    open_dataset("digits")
    script = """
import sys
import vaejax
before = set(sys.modules)
from vaejax.data import open_dataset
open_dataset("digits", validation=0.1).split("validation")
heavy = {"tensorflow_datasets", "mlxtend", "sklearn", "PIL", "jax"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert out.stdout.strip() == "[]"


@pytest.mark.slow
def test_preparing_says_nothing_and_may_happen_twice_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "fresh"))
    script = (
        "from vaejax.data import *; print(open_dataset('breast_cancer').spec.digest)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.communicate(timeout=60) == (
            GOLDEN["breast_cancer"][2] + "\n",
            "",
        )
    left = [p.name for p in (tmp_path / "fresh" / "breast_cancer").iterdir()]
    assert left == [VERSIONS["breast_cancer"]]


def test_a_read_only_data_directory_is_cached_elsewhere(
    data_dir, tmp_path, monkeypatch
):
    folders = [data_dir / "digits" / "1.0.0", data_dir / "digits", data_dir]
    before = sorted(data_dir.rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    try:
        first = open_dataset("digits")
        monkeypatch.setattr("vaejax.data.decode.decode_splits", no_decoding)
        assert same(first, open_dataset("digits"))
    finally:
        for folder in folders[::-1]:
            folder.chmod(0o755)
    assert sorted(data_dir.rglob("*")) == before
    assert list((tmp_path / "cache" / "vaejax").glob("*/digits/1.0.0/vaejax/spec.json"))


def test_ours_are_prepared_elsewhere_if_the_data_directory_is_read_only(
    tmp_path, monkeypatch
):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o555)
    monkeypatch.setenv("TFDS_DATA_DIR", str(shut))
    first = open_dataset("breast_cancer")
    monkeypatch.setattr("vaejax.data.decode.decode_splits", no_decoding)
    assert same(first, open_dataset("breast_cancer"))
    assert not list(shut.iterdir())


def cut_short(cache):
    x = cache / "x_train.npy"
    x.write_bytes(x.read_bytes()[:-1])


def flip_a_byte(cache):
    raw = bytearray((cache / "x_train.npy").read_bytes())
    raw[-1000] ^= 1
    (cache / "x_train.npy").write_bytes(bytes(raw))


def lose_an_array(cache):
    (cache / "y_test.npy").unlink()


def scramble_the_spec(cache):
    (cache / "spec.json").write_text("{")


def miscount(cache):
    spec = json.loads((cache / "spec.json").read_text())
    spec["sizes"]["train"] += 1
    (cache / "spec.json").write_text(json.dumps(spec))


def empty(cache):
    (cache / "x_test.npy").write_bytes(b"")


def become_a_file(cache):
    shutil.rmtree(cache)
    cache.write_text("")


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_a_byte,
        lose_an_array,
        scramble_the_spec,
        miscount,
        empty,
        become_a_file,
    ],
)
def test_a_damaged_cache_is_made_again(damage, data_dir, monkeypatch):
    first = open_dataset("digits")
    cache = data_dir / "digits" / "1.0.0" / "vaejax"
    damage(cache)
    assert same(first, open_dataset("digits"))
    monkeypatch.setattr("vaejax.data.decode.decode_splits", no_decoding)
    assert same(first, open_dataset("digits"))
    assert not list(cache.parent.glob(".vaejax*"))


def test_what_a_killed_writer_leaves_does_no_harm(data_dir, monkeypatch):
    half = data_dir / "digits" / "1.0.0" / ".vaejax-killed"
    half.mkdir()
    (half / "x_train.npy").write_bytes(b"\x93NUMPY")
    first = open_dataset("digits")
    monkeypatch.setattr("vaejax.data.decode.decode_splits", no_decoding)
    assert same(first, open_dataset("digits"))


def test_a_full_disk_costs_the_cache_only(data_dir, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", full)
    assert same(open_dataset("digits"), open_dataset("digits"))
    assert not (data_dir / "digits" / "1.0.0" / "vaejax").exists()


def test_the_newest_version_is_opened(data_dir):
    from vaejax.data.places import Address

    for version in ("9.0.0", "10.0.0", "incomplete.X_11.0.0"):
        shutil.copytree(data_dir / "digits" / "1.0.0", data_dir / "other" / version)
    assert find(Address("other", None, None)) == data_dir / "other" / "10.0.0"
    assert find(Address("other", None, "9.0.0")) == data_dir / "other" / "9.0.0"
    assert find(Address("other", None, "8.0.0")) is None


# Other TFDS sets: tiny ones, prepared for real, as TFDS's own would be.


def adhoc(name, features, splits, config=None):
    """A registered builder of `splits`, examples by split."""
    import tensorflow_datasets as tfds

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def generators(self, dl_manager):
        return {split: iter(enumerate(rows)) for split, rows in splits.items()}

    fields = {
        "name": name,
        "VERSION": tfds.core.Version("1.2.0"),
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config)] if config else [],
        "pkg_dir_path": Path(__file__).parent,
        "_info": info,
        "_split_generators": generators,
        "_generate_examples": None,
    }
    return type(name, (tfds.core.GeneratorBasedBuilder,), fields)


@pytest.fixture
def stock(tmp_path, monkeypatch):
    """Registers a builder as if TFDS shipped it and TensorFlow were installed."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr("vaejax.data.prepare.has_tensorflow", lambda: True)
    return adhoc


def picture(level: int, size: tuple[int, int] = (3, 2)):
    from PIL import Image

    return Image.fromarray(np.full((*size, 3), level, np.uint8))


def test_a_set_with_images_labels_and_a_config(stock, tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(3, 2, 3)),
        "label": tfds.features.ClassLabel(num_classes=7),
        "an_image": tfds.features.Image(shape=(None, None, 3)),
        "a_label": tfds.features.ClassLabel(num_classes=2),
    }
    odd = picture(0, (4, 4))
    rows = [
        {"image": picture(i), "label": i % 5, "an_image": odd, "a_label": 0}
        for i in range(50)
    ]
    stock("tiny", features, {"train": rows, "extra": rows}, config="plain")
    data = open_dataset("tiny")
    spec = data.spec
    assert (spec.kind, spec.shape, spec.levels) == ("image", (3, 2, 3), 256)
    assert spec.classes == 5  # of the 7 declared, those that there are
    assert spec.sizes == {"train": 45, "test": 5}
    every = np.concatenate([data.split(s)["x"][:, 0] for s in spec.sizes])
    assert sorted(every) == list(range(50))
    train = data.split("train")
    assert (train["x"][:, 0] % 5 == train["y"]).all()
    assert (tmp_path / "tfds" / "tiny" / "plain" / "1.2.0" / "vaejax").is_dir()
    monkeypatch.setattr("vaejax.data.decode.decode_splits", no_decoding)
    for name in ("tiny", "tiny/plain", "tiny/plain:1.2.0"):
        assert open_dataset(name).spec == spec._replace(name=name)
    assert "Downloading" in capsys.readouterr().err


def test_a_shipped_validation_split_is_kept(stock):
    import tensorflow_datasets as tfds

    rows = [{"image": picture(255 * (i % 2))} for i in range(10)]
    features = {"image": tfds.features.Image(shape=(3, 2, 3))}
    stock("halves", features, {"train": rows, "validation": rows[:4], "test": rows[:3]})
    data = open_dataset("halves", validation=0.5)
    assert data.spec.sizes == {"train": 10, "validation": 4, "test": 3}
    assert (data.spec.levels, data.spec.classes) == (2, 0)
    assert set(np.unique(data.split("validation")["x"])) == {0, 1}
    assert "y" not in data.split("train")


def test_a_table(stock):
    import tensorflow_datasets as tfds

    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    features = {"features": tfds.features.Tensor(shape=(2,), dtype=np.float32)}
    rows = [{"features": row} for row in values]
    stock("rows", features, {"train": rows, "test": rows})
    data = open_dataset("rows")
    assert (data.spec.kind, data.spec.shape, data.spec.levels) == ("table", (2,), 0)
    assert data.spec.mean == (19.0, 20.0)


def test_sets_that_cannot_be_read(stock, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(3, 2, 3))
    sizes = tfds.features.Image(shape=(None, None, 3))
    text = tfds.features.Text()
    whole = tfds.features.Tensor(shape=(2,), dtype=np.int64)
    rows = [{"image": picture(i)} for i in range(20)]
    stock("ragged", {"image": sizes}, {"train": rows})
    stock("prose", {"text": text}, {"train": [{"text": "a"}]})
    stock("whole", {"features": whole}, {"train": [{"features": np.zeros(2, int)}]})
    stock("exam", {"image": image}, {"test": rows})
    few = [{"features": np.zeros(2, np.float32)}]
    vector = tfds.features.Tensor(shape=(2,), dtype=np.float32)
    stock("long", {"features": vector}, {"train": few})
    stock("offline", {"image": image}, {"train": iter(lambda: 1 / 0, None)})
    for name, fragment in [
        ("ragged", "different sizes.*set --image-size"),
        ("prose", "neither images nor a float vector 'features': it has text"),
        ("whole", "must be a float vector"),
        ("exam", "no training split"),
        (
            "offline",
            r"preparing 'offline' failed \(ZeroDivisionError.* or set TFDS_DATA_DIR",
        ),
    ]:
        with pytest.raises(InputError, match=fragment):
            open_dataset(name)
    assert not (tmp_path / "tfds" / "ragged" / "1.2.0").exists()
    monkeypatch.setattr("vaejax.data.features.LIMIT", 9)
    with pytest.raises(InputError, match="only images stream"):
        open_dataset("long")


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ('"array_record"', '"tfrecord"', "stored as tfrecord, not array_record"),
        ('"1438"', '"1439"', "record 1438 of split 'train' .*is corrupt"),
        ("{", "", "cannot be read .*remove that folder"),
    ],
)
def test_prepared_sets_that_cannot_be_read(old, new, fragment, data_dir):
    info = data_dir / "digits" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace(old, new))
    with pytest.raises(InputError, match=fragment):
        open_dataset("digits")


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        (
            "cifar10",
            r"needs TensorFlow: pip install 'vaejax\[prepare\]'; or set TFDS_DATA",
        ),
        ("mnits", "did you mean mnist"),
        ("digit", "did you mean digits"),
        ("qqqqqqqq", "there are breast_cancer, digits, mnist_5k"),
        ("some.npz", "write 'npz:some.npz'"),
        ("a b", "is no data set name"),
        ("digits:7.0.0", "one version, 1.0.0"),
        ("npz:none.npz", "there is no file /.*none.npz"),
    ],
)
def test_names_that_cannot_be_opened(name, fragment, monkeypatch):
    monkeypatch.setattr("vaejax.data.prepare.has_tensorflow", lambda: False)
    with pytest.raises(InputError, match=fragment) as raised:
        open_dataset(name)
    assert "\n" not in str(raised.value)


def test_a_remote_data_directory(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="gs://bucket needs gcsfs: pip install"):
        open_dataset("digits")


# Files and arrays.

IMAGES = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2)
TABLE = np.arange(40, dtype=np.float32).reshape(20, 2)
LABELS = np.arange(20) % 3


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"x_test": IMAGES}, "no x_train"),
        (
            {"x_train": IMAGES, "z": IMAGES},
            r"unknown keys \['z'\]: allowed are x_train",
        ),
        ({"x_train": IMAGES[0, 0]}, "give images as"),
        ({"x_train": IMAGES[0]}, "uint8 of rank 2"),
        (
            {"x_train": IMAGES / 1},
            r"0 to 79, which may mean .*255 / 79",
        ),
        ({"x_train": IMAGES.astype(complex)}, "give pictures as uint8"),
        ({"x_train": TABLE.astype(complex)}, "use float16, float32"),
        ({"x_train": TABLE.astype(np.longdouble)}, "use float16, float32"),
        ({"x_train": TABLE.astype(str)}, "use float16, float32"),
        ({"x_train": np.where(TABLE == 3, np.inf, TABLE)}, "infinite"),
        ({"x_train": TABLE[:0]}, "is empty"),
        ({"x_train": TABLE[:1]}, "too few training examples"),
        ({"x_train": TABLE * 1e30, "x_test": TABLE[:, :1]}, "differs .* in shape"),
        ({"x_train": TABLE, "x_test": TABLE.astype(float)}, "differs .* in dtype"),
        ({"x_train": TABLE.astype(float) * 4e306}, "too large to standardize"),
        ({"x_train": TABLE, "y_train": LABELS[:-1]}, "19 labels for 20"),
        ({"x_train": TABLE, "y_train": LABELS - 1}, "examples without a label"),
        ({"x_train": TABLE, "y_train": LABELS / 1}, r"y.astype\(int\)"),
        ({"x_train": TABLE, "y_train": LABELS[:, None]}, r"y\[:, 0\]"),
        ({"x_train": TABLE, "y_test": LABELS}, "y_test but no x_test"),
        ({"x_train": TABLE, "x_test": TABLE, "y_test": LABELS}, "labels one split"),
        ({"x_train": np.array([{}, 1])}, "not a readable .npz"),
    ],
)
def test_files_that_cannot_be_used(arrays, fragment, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=fragment) as raised:
        open_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut", "npy"])
def test_files_that_are_no_npz(content, tmp_path):
    path = tmp_path / "a.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, TABLE)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="is not a readable"):
        open_dataset(f"npz:{path}")


def test_a_file_of_images(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    monkeypatch.chdir(tmp_path)
    data = open_dataset("npz:a.npz")
    assert data.spec.name == f"npz:{tmp_path / 'a.npz'}"
    assert (data.spec.shape, data.spec.levels, data.spec.classes) == ((2, 2, 1), 256, 3)
    assert data.spec.sizes == {"train": 18, "test": 2}
    for split in data.spec.sizes:
        arrays = data.split(split)
        row = arrays["x"][:, 0] // 4
        assert (arrays["x"] == IMAGES.reshape(20, 4)[row]).all()
        assert (arrays["y"] == LABELS[row]).all()
    with pytest.raises(InputError, match="no split 'validation': it has train, test"):
        data.split("validation")


@pytest.mark.parametrize(("high", "levels"), [(1, 2), (255, 2), (254, 256)])
def test_images_with_two_values_become_binary(high, levels):
    x = (IMAGES % 2 * high)[..., None].repeat(3, -1)
    data = from_arrays(x, x_test=x[:3])
    assert (data.spec.levels, data.spec.shape) == (levels, (2, 2, 3))
    assert data.split("test")["x"].max() == (1 if levels == 2 else high)


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i4", "u2", "i8"])
def test_tables_are_standardized_by_what_is_trained_on(dtype):
    x = np.concatenate([TABLE, np.full((20, 1), 0.1)], 1).astype(dtype)
    data = open_dataset(from_arrays(x, LABELS, name="numbers"), validation=0.25)
    train = data.split("train")
    assert train["x"].dtype == np.float32
    assert train["x"].flags.c_contiguous
    np.testing.assert_allclose(train["x"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train["x"][:, :2].std(0), 1, rtol=1e-6)
    assert (train["x"][:, 2] == 0).all()
    assert data.spec.scale[2] == 1
    for split in data.spec.sizes:
        raw = data.split(split)["x"] * data.spec.scale + np.array(data.spec.mean)
        known = {tuple(row) for row in x.astype(float)[:, :2].tolist()}
        assert {tuple(row) for row in np.round(raw[:, :2], 3).tolist()} <= known


def test_holding_out_from_an_open_set_equals_holding_out_at_once(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(100, 3, (60, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_train=x)
    name = f"npz:{tmp_path / 'a.npz'}"
    at_once = open_dataset(name, validation=0.2)
    later = open_dataset(open_dataset(name), validation=0.2)
    assert at_once.spec.digest == later.spec.digest
    for split in ("train", "validation", "test"):
        a, b = at_once.split(split)["x"], later.split(split)["x"]
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_validation_is_fixed_disjoint_and_leaves_the_test_split():
    whole, data = open_dataset("digits"), open_dataset("digits", validation=0.1)
    assert data.spec.sizes == {"train": 1294, "test": 359, "validation": 144}
    assert same(data, open_dataset("digits", validation=0.1))
    assert same(data, open_dataset(whole, validation=0.1))
    assert data.spec.digest == whole.spec.digest
    assert np.array_equal(data.split("test")["x"], whole.split("test")["x"])
    parts = [data.split(split)["x"] for split in ("train", "validation")]
    assert sorted(map(bytes, np.concatenate(parts))) == sorted(
        map(bytes, whole.split("train")["x"])
    )
    larger = open_dataset("digits", validation=0.2).split("validation")["x"]
    assert np.array_equal(larger[:144], parts[1])


def test_the_permutation_is_the_same_for_ever():
    assert fixed_permutation(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert sorted(fixed_permutation(1000, 1)) == list(range(1000))
    assert fixed_permutation(8, 0).tolist() != fixed_permutation(8, 1).tolist()


@pytest.mark.parametrize("validation", [-0.1, 1.0, 1.5, 2.5, float("nan")])
def test_impossible_fractions(validation):
    with pytest.raises(InputError, match="at least 0 and less than 1"):
        open_dataset("digits", validation=validation)


def test_a_fraction_that_leaves_nothing_to_train_on():
    data = from_arrays(TABLE[:2], x_test=TABLE)
    with pytest.raises(InputError, match="too few training examples"):
        open_dataset(data, validation=0.9)


def test_a_dataset_passes_through():
    data = from_arrays(TABLE, x_test=TABLE)
    assert open_dataset(data) is data


def test_the_digest_tells_contents_apart():
    digests = {
        from_arrays(x, y, x_test, y).spec.digest
        for x, y, x_test in [
            (IMAGES, None, IMAGES),
            (IMAGES, LABELS, IMAGES),
            (IMAGES, LABELS[::-1], IMAGES),
            (IMAGES, None, IMAGES + np.uint8(1)),
            (IMAGES.reshape(20, 4, 1), None, IMAGES.reshape(20, 4, 1)),
        ]
    }
    assert len(digests) == 5
    assert from_arrays(TABLE).spec.digest == from_arrays(TABLE).spec.digest


def test_a_spec_survives_json():
    spec = from_arrays(TABLE, LABELS).spec
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_names_of_columns_are_a_list_or_none():
    assert from_arrays(TABLE, columns=None).spec.columns == ()
    assert from_arrays(TABLE, counts="all").spec.columns[0].kind == "count"
    for wrong in (3, {"a"}, np.array("ab"), [["a"], ["b", "c"]]):
        with pytest.raises(InputError, match="columns is no"):
            from_arrays(TABLE, columns=wrong)
    with pytest.raises(InputError, match="give one for each"):
        from_arrays(TABLE, columns="ab")


@pytest.mark.parametrize("y", [None, {1}, [b"\xff"], np.zeros(3, "V3"), [[1], [1, 2]]])
def test_what_is_no_label_of_a_class(y):
    spec = from_arrays(TABLE, LABELS).spec
    with pytest.raises(InputError) as raised:
        spec.label_index(y)
    assert "\n" not in str(raised.value)
