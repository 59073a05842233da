"""Own examples in and out: codes, evaluations, and drawn rows of tables."""

import json

import numpy as np
import pandas as pd
import pytest

import vaejax
from tests.npz import read_npz
from vaejax import InputError, presets
from vaejax.cli.commands_data import encode_file, evaluate_own
from vaejax.cli.examples import write_samples
from vaejax.cli.measuring import EvaluationSettings
from vaejax.data import open_dataset

TINY = {"hidden": (6,), "latents": 2, "epochs": 2, "batch_size": 16}


def people(seed, rows=60):
    """A table of numbers, a count, texts of two values and of three."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 10, rows).round(1),
            "visits": rng.poisson(3, rows),
            "member": np.where(rng.random(rows) < 0.5, "yes", "no"),
            "city": rng.choice(["Oslo", "Lima", "Rome"], rows),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of a table without holes, and its folder."""
    folder = tmp_path_factory.mktemp("own")
    people(0).to_csv(folder / "train.csv", index=False)
    data = f"csv:{folder / 'train.csv'}"
    model = presets.vae(dataset=data, counts=("visits",), **TINY)
    state = vaejax.train(model, folder / "run", quiet=True)
    return model, state, folder


def test_codes_are_of_the_rows_in_their_order(run, tmp_path):
    model, state, folder = run
    test = people(1, 23)
    test.to_csv(tmp_path / "new.csv", index=False)
    for end in ("csv", "npz"):
        encode_file(folder / "run", tmp_path / "new.csv", tmp_path / f"c.{end}", 10, 0)
    text = pd.read_csv(tmp_path / "c.csv")
    assert list(text) == ["mean_0", "mean_1", "scale_0", "scale_1"]
    with np.load(tmp_path / "c.npz") as file:
        means, scales = file["mean"], file["scale"]
    np.testing.assert_array_equal(
        text.to_numpy(np.float32), np.concatenate([means, scales], 1)
    )
    # Row by row, by the columns' own units: (x - mean) / deviation, texts by number.
    spec = model.dataset.spec
    units = np.array(
        [
            (test["age"] - spec.mean[0]) / spec.scale[0],
            test["visits"],
            test["member"] == "yes",
            test["city"].map({"Lima": 0, "Oslo": 1, "Rome": 2}),
        ]
    ).T.astype(np.float32)
    q = vaejax.encode(model, state, units)
    np.testing.assert_allclose(means, q.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scales, np.sqrt(q.variance), rtol=1e-5)


def test_a_files_own_examples_are_evaluated_as_a_split_is(run, tmp_path):
    model, state, folder = run
    data = open_dataset(f"csv:{folder / 'train.csv'}", counts=("visits",))
    x = np.asarray(data.split("test")["x"]) * data.spec.scale + data.spec.mean
    texts = {
        "age": x[:, 0].round(1),
        "visits": x[:, 1].astype(int),
        "member": np.array(["no", "yes"])[x[:, 2].astype(int)],
        "city": np.array(["Lima", "Oslo", "Rome"])[x[:, 3].astype(int)],
    }
    pd.DataFrame(texts).to_csv(tmp_path / "again.csv", index=False)
    evaluate_own(folder / "run", tmp_path / "again.csv", EvaluationSettings(20))
    found = json.loads((folder / "run" / "evaluation-again.json").read_text())
    exact = vaejax.evaluate(model, state, samples=20)
    assert found["examples"] == 6
    for name in ("elbo", "nll", "kl"):
        assert found[name] == pytest.approx(exact[name], rel=1e-5)
    assert not (folder / "run" / "evaluation.json").exists()


def test_drawn_rows_are_rows_of_the_table(run, tmp_path):
    _, _, folder = run
    write_samples(folder / "run", 40, tmp_path / "rows.csv", (), False, 0)
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert list(rows) == list(people(0))
    assert set(rows["member"]) <= {"yes", "no"}
    assert set(rows["city"]) <= {"Oslo", "Lima", "Rome"}
    assert (rows["visits"] >= 0).all()
    assert rows["visits"].dtype.kind == "i"  # drawn, not means
    assert len(set(rows["city"])) > 1
    # What was drawn can be trained on, and imputed, again.
    open_dataset(f"csv:{tmp_path / 'rows.csv'}", counts=("visits",))
    write_samples(folder / "run", 4, tmp_path / "m.csv", (), False, 0, mean=True)
    assert set(pd.read_csv(tmp_path / "m.csv")["member"]) <= {"yes", "no"}
    write_samples(folder / "run", 4, tmp_path / "s.npz", (), False, 0)
    with np.load(tmp_path / "s.npz") as file:
        assert list(file["columns"]) == list(people(0))
        assert file["x"].shape == (4, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop(columns="age"), "age"),
        (lambda f: f.assign(city="Paris"), "Paris"),
        (lambda f: f.assign(visits=-1), "-1"),
        (lambda f: f.assign(age=np.where(f["age"] > 40, np.nan, f["age"])), "holes"),
    ],
)
def test_rows_unlike_those_of_training_are_refused(change, says, run, tmp_path):
    _, _, folder = run
    change(people(2)).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(InputError) as caught:
        encode_file(folder / "run", tmp_path / "in.csv", tmp_path / "c.csv", 100, 0)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c.csv").exists()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A conditional model of images whose labels are texts."""
    folder = tmp_path_factory.mktemp("own")
    x = np.random.default_rng(0).integers(0, 256, (48, 4, 5)).astype(np.uint8)
    y = np.array(["cat", "dog"])[np.arange(48) % 2]
    np.savez(folder / "i.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    model = presets.cvae(dataset=f"npz:{folder / 'i.npz'}", **TINY)
    return model, vaejax.train(model, folder / "run", quiet=True), folder


def test_images_are_evaluated_by_the_names_of_their_labels(labelled, tmp_path):
    model, state, folder = labelled
    # The file of training: its test split is what is read of it.
    evaluate_own(folder / "run", folder / "i.npz", EvaluationSettings(5))
    found = json.loads((folder / "run" / "evaluation-i.json").read_text())
    exact = vaejax.evaluate(model, state, samples=5)
    assert found["nll"] == pytest.approx(exact["nll"], rel=1e-6)
    encode_file(folder / "run", folder / "i.npz", tmp_path / "c.npz", 4, 0)
    with np.load(tmp_path / "c.npz") as file:
        assert file["mean"].shape == (10, 2)
        assert file["label"].tolist() == ["cat", "dog"] * 5
    encode_file(folder / "run", folder / "i.npz", tmp_path / "c.csv", 4, 0)
    text = pd.read_csv(tmp_path / "c.csv")
    assert list(text) == ["mean_0", "mean_1", "scale_0", "scale_1", "label"]
    assert text["label"].tolist() == ["cat", "dog"] * 5


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": (3, 4, 5)}, "has no labels"),
        ({"x": (3, 5, 4), "y": ["cat"] * 3}, "the model's are"),
        (
            {"x": (3, 4, 5), "y": ["cow"] * 3},
            "no class 'cow': the classes are cat",
        ),
        ({"x": (3, 4, 5), "y": ["cat"] * 2}, "2 labels for 3 examples"),
        ({"z": (3, 4, 5)}, "has no array x"),
        ({"x": (0, 4, 5), "y": []}, "empty"),
    ],
)
def test_images_unlike_those_of_training_are_refused(arrays, says, labelled, tmp_path):
    _, _, folder = labelled
    made = {
        name: np.zeros(a, np.uint8) if isinstance(a, tuple) else np.array(a, str)
        for name, a in arrays.items()
    }
    np.savez(tmp_path / "in.npz", **made)
    with pytest.raises(InputError) as caught:
        encode_file(folder / "run", tmp_path / "in.npz", tmp_path / "c.npz", 100, 0)
    assert says in str(caught.value)


def test_columns_of_an_npz_are_found_by_their_names(tmp_path):
    x = np.random.default_rng(0).normal(3, 2, (48, 3))
    names = np.array(["a", "b", "c"])
    np.savez(tmp_path / "t.npz", x_train=x, columns=names)
    model = presets.vae(dataset=f"npz:{tmp_path / 't.npz'}", **TINY)
    vaejax.train(model, tmp_path / "run", quiet=True)
    np.savez(tmp_path / "turned.npz", x=x[:, ::-1], columns=names[::-1])
    np.savez(tmp_path / "plain.npz", x=x)
    for name in ("turned", "plain"):
        out = tmp_path / f"{name}-codes.npz"
        encode_file(tmp_path / "run", tmp_path / f"{name}.npz", out, 100, 0)
    a, b = (read_npz(tmp_path / f"{n}-codes.npz")["mean"] for n in ("turned", "plain"))
    np.testing.assert_array_equal(a, b)
