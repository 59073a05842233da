"""Labels of users: texts, gaps and other starts than 0 keep their names."""

import json

import jax
import numpy as np
import pytest

import vaejax
from tests.npz import read_npz
from vaejax import plots
from vaejax.cli.examples import write_samples as sample_command
from vaejax.data.classes import labels_of, of_training
from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.metrics.classifier import judged
from vaejax.presets import classifier, cvae, vae
from vaejax.training.config import recorded_dataset

TEXTS = np.array(["one", "seven", "zebra"])
SMALL = {"hidden": (8,), "epochs": 2, "batch_size": 24}


def bars():
    """150 images 8x9 whose bar stands at the place of their class, and the classes."""
    y = np.arange(150) % 3
    x = np.random.default_rng(0).integers(0, 60, (150, 8, 9)).astype(np.uint8)
    x[np.arange(150), :, 3 * y + 1] = 230
    return x, y


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same images with three kinds of labels: a generator and a classifier each."""
    x, y = bars()
    found = {}
    for name, labels in {
        "0": np.arange(3),
        "1": np.arange(1, 4),
        "text": TEXTS,
    }.items():
        folder = tmp_path_factory.mktemp("run")
        np.savez(folder / "bars.npz", x_train=x, y_train=labels[y])
        data = f"npz:{folder / 'bars.npz'}"
        model = cvae(dataset=data, latents=2, **SMALL)
        state = vaejax.train(model, folder / "model", quiet=True)
        judge = classifier(dataset=data, **SMALL)
        vaejax.train(judge, folder / "judge", quiet=True)
        found[name] = model, state, folder
    return found


@pytest.mark.parametrize("other", ["1", "text"])
def test_names_of_classes_change_no_number(runs, other):
    (model, state, folder), (named, again, place) = runs["0"], runs[other]
    assert named.dataset.spec.classes == 3
    jax.tree.map(np.testing.assert_array_equal, state.params, again.params)
    scores = judged(model, state, folder / "judge", 60)
    others = judged(named, again, place / "judge", 60)
    del scores["classifier_digest"], others["classifier_digest"]
    assert list(others.values()) == list(scores.values())
    # Classes are matched by name, and one that the classifier does not know is said.
    with pytest.raises(InputError, match="no class"):
        judged(named, again, folder / "judge", 60)


def test_a_run_is_loaded_and_sampled_by_the_names_of_classes(runs, tmp_path):
    _, _, folder = runs["text"]
    model, state = vaejax.load(folder / "model")
    spec = model.dataset.spec
    assert spec.class_names == tuple(TEXTS)
    key = jax.random.key(0)
    by_name, by_index = (
        vaejax.sample(model, state, key, 3, given={"y": y})
        for y in (["seven", "one", "seven"], np.array([1, 0, 1]))
    )
    np.testing.assert_array_equal(by_name, by_index)
    with pytest.raises(InputError, match=r"'eight': the classes are one,"):
        vaejax.sample(model, state, key, 1, given={"y": ["eight"]})
    sample_command(folder / "model", 3, tmp_path / "a.npz", ("seven",), False, 0)
    sample_command(folder / "model", 3, tmp_path / "b.npz", ("1",), False, 0)
    a, b = (read_npz(tmp_path / f"{n}.npz") for n in "ab")
    np.testing.assert_array_equal(a["x"], b["x"])
    assert a["y"].tolist() == b["y"].tolist() == ["seven"] * 3
    heads = plots.classes(model, state).axes[0].get_xticklabels()
    assert [head.get_text() for head in heads] == list(TEXTS)


def test_a_class_that_training_never_saw_is_refused(runs, tmp_path):
    _, _, folder = runs["1"]
    with pytest.raises(InputError, match="--label: no class '0': the classes are 1, 2"):
        sample_command(folder / "model", 3, tmp_path / "a.npz", ("0",), False, 0)


def test_an_older_run_takes_labels_as_they_are_stored(runs):
    _, _, folder = runs["1"]
    config = json.loads((folder / "model" / "config.json").read_text())
    for name in ("names", "unseen"):
        del config["data"][name]
    config["data"]["classes"] = 4
    old = recorded_dataset(Spec.from_json(config["data"]), config["arguments"])
    assert set(old.split("train")["y"].tolist()) == {1, 2, 3}
    assert old.spec.class_names == ("0", "1", "2", "3")
    assert old.spec.label_index([3, 0]).tolist() == [3, 0]


TABLE = np.random.default_rng(0).normal(size=(12, 2))


def opened(labels, tests=None):
    """A small table with these labels."""
    tests = labels if tests is None else tests
    return vaejax.from_arrays(TABLE, labels, TABLE[: len(tests)], tests)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([3, 7, 50000] * 4, ("3", "7", "50000")),
        ([0, 1, 2] * 4, ("0", "1", "2")),
        (["2", "10", "0"] * 4, ("0", "2", "10")),
        (["01", "2", "b"] * 4, ("01", "2", "b")),
        ([True, False, True] * 4, ("False", "True")),
        (np.array(["b", "a", "b"] * 4, object), ("a", "b")),
        (np.array([b"b", b"a"] * 6), ("a", "b")),
    ],
)
def test_labels_have_indices_in_ascending_order(labels, names):
    data = opened(labels)
    spec = Spec.from_json(json.loads(json.dumps(data.spec.to_json())))
    assert (spec.classes, spec.class_names) == (len(names), names)
    for split in ("train", "test"):
        y = data.split(split)["y"]
        called = np.array(names)[y]
        assert called.tolist() == np.asarray(labels).astype(str).tolist()
        np.testing.assert_array_equal(y, spec.label_index(labels))
        given = labels_of(y, spec.class_names)
        np.testing.assert_array_equal(given, np.asarray(labels).astype(given.dtype))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.eye(3)[[0, 1, 2] * 4], "y.argmax(1)"),
        (["a", ""] * 6, "empty labels"),
        ([-1, 1] * 6, "y.astype(str)"),
        (["a", None] * 6, "texts [N]"),
    ],
)
def test_what_cannot_be_labels_is_refused_with_a_remedy(labels, says):
    with pytest.raises(InputError) as caught:
        opened(labels, labels)
    assert says in str(caught.value)


def test_a_class_of_the_test_split_alone_is_refused_where_it_is_conditioned_on():
    data = opened([1, 2, 1] * 4, [1, 2, 5])
    assert data.split("test")["y"].tolist() == [0, 1, -1]
    assert (data.spec.classes, data.spec.unseen) == (2, ("5",))
    with pytest.raises(InputError, match="examples of 5 to test on, which training"):
        cvae(dataset=data, **SMALL)
    assert vae(dataset=data, **SMALL | {"batch_size": 4}).dataset.spec.classes == 2


def test_labels_of_a_data_set_are_mapped_once():
    data = opened([3, 7, 50000] * 4)
    again = of_training(data)
    assert again.spec.class_names == data.spec.class_names
    np.testing.assert_array_equal(again.split("test")["y"], data.split("test")["y"])
