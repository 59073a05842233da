"""Tables of people's own: their columns, and filling them through the scripts."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaejax import InputError, presets, train
from vaejax.apply.impute import Filled, collapse
from vaejax.cli.examples import fill_file
from vaejax.data import Spec, open_dataset
from vaejax.data.spec import Column
from vaejax.distributions import expectation
from vaejax.distributions.columns import decide, features
from vaejax.models.columns import Reader, TableLikelihood
from vaejax.models.likelihoods import Gaussian

TINY = {"hidden": (6,), "latents": 2, "epochs": 2, "batch_size": 16}


def holey(frame, rng):
    """The table with a fifth of its cells missing."""
    return frame.mask(rng.random(frame.shape) < 0.2)


def trained(folder, dataset, **settings):
    """A workdir of a model that was trained on the data."""
    experiment = presets.miwae(dataset=dataset, **settings)
    train(experiment, folder / "run", quiet=True, devices=1)
    return folder / "run"


def filled_npz(folder, source, **settings):
    """The array that `impute.py` writes, after training on the same file."""
    run = trained(folder, f"npz:{source}", **settings, **TINY)
    fill_file(run, source, folder / "f.npz", 0, 10, "importance", 0)
    with np.load(folder / "f.npz") as file:
        return file["x"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A CSV file with columns of every kind and holes."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=120)
    frame = pd.DataFrame(
        {
            "age": [f"{a:.1f}" for a in 40 + 10 * z],
            "city": np.array(["Rome", "Oslo", "Lima"])[rng.integers(0, 3, 120)],
            "visits": rng.poisson(np.exp(0.3 * z)).astype(str),
            "member": np.where(z > 0, "yes", "no"),
            "unit": "kg",
            "flag": np.where(z > 0.3, "1", "0"),
            "weight": [f"{w:.2e}" for w in 70 - 8 * z],
        }
    )
    frame = holey(frame, rng)
    frame.iloc[7] = None
    path = tmp_path_factory.mktemp("csv") / "people.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    """A workdir of a model that was trained on it."""
    folder = tmp_path_factory.mktemp("run")
    return trained(folder, f"csv:{people}", counts=("visits",), **TINY)


def cells(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_what_columns_hold_is_found(people):
    spec = open_dataset(f"csv:{people}", counts=("visits",)).spec
    assert {c.name: c.kind for c in spec.columns} == {
        "age": "real",
        "city": "category",
        "visits": "count",
        "member": "binary",
        "unit": "constant",
        "flag": "binary",
        "weight": "real",
    }
    assert spec.columns[1].values == ("Lima", "Oslo", "Rome")
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.masked


def test_numbers_are_standardized_and_codes_are_not(people):
    dataset = open_dataset(f"csv:{people}", counts=("visits",))
    arrays = dataset.split("train")
    x, mask = arrays["x"], arrays["mask"] == 1
    assert (x[~mask] == 0).all()
    for column in (0, 6):
        seen = x[mask[:, column], column]
        assert abs(seen.mean()) < 1e-5
        assert abs(seen.std() - 1) < 1e-5
    assert set(np.unique(x[:, 1])) == {0, 1, 2}
    assert dataset.spec.mean[2] == 0


@pytest.mark.parametrize(
    ("text", "settings", "fragment"),
    [
        ("", {}, "not a readable CSV"),
        ("a,b\n", {}, "no rows"),
        ("a\n1\n2\nx1\n4\n", {}, "column 'a' holds numbers and the text 'x1' (line 4)"),
        ("a\n1\n-2\n", {"counts": ("a",)}, "--counts holds -2"),
        ("a\n1\n2\n", {"counts": ("b",)}, "no column 'b'"),
        ("a\n1\n2\n", {"categories": ("c",)}, "no column 'c'"),
        ("a\nu\nv\nw\nx\ny\nz\n", {}, "names, not categories"),
        ("a,b\n1,\n2,\n3,\n", {}, "no entry of column b"),
        ("a\n1\ninf\n3\n5\n", {}, "infinite"),
    ],
)
def test_tables_that_cannot_be_used(text, settings, fragment, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        open_dataset(f"csv:{path}", **settings)
    assert fragment in str(raised.value)


def test_a_file_that_is_not_there_and_settings_of_another_source(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        open_dataset(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(InputError, match="csv:, npz: or hf: data set"):
        open_dataset("digits", counts=("a",))


COLUMNS = (
    Column("p", "category", ("a", "b", "c")),
    Column("q"),
    Column("r", "count"),
    Column("s", "constant"),
    Column("t", "binary", ("no", "yes")),
    Column("u"),
    Column("v", "category", ("d", "e", "f", "g")),
)


@pytest.fixture(scope="module")
def mixed():
    """A distribution over a table, and the numbers that it was made of."""
    likelihood = TableLikelihood(COLUMNS, Gaussian())
    out = np.random.default_rng(0).normal(size=(1, 3, likelihood.outputs(7)))
    batch = {"x": jnp.zeros((3, 7))}
    variables = likelihood.init(jax.random.key(0), jnp.asarray(out), batch)
    return likelihood.apply(variables, jnp.asarray(out), batch), out[0]


def test_each_column_has_its_own_density(mixed):
    px, out = mixed
    x = np.array([[2, 0.3, 4, 0, 1, -1, 3]] * 3)
    found = np.asarray(px.log_prob(jnp.asarray(x)[None]))[0]
    first = out[:, 4:7] - np.log(np.exp(out[:, 4:7]).sum(1, keepdims=True))
    last = out[:, 7:] - np.log(np.exp(out[:, 7:]).sum(1, keepdims=True))
    p = 1 / (1 + np.exp(-out[:, 2]))
    exact = [
        first[:, 2],
        stats.norm(out[:, 0]).logpdf(0.3),
        stats.poisson(np.exp(out[:, 3])).logpmf(4),
        np.zeros(3),
        np.log(p),
        stats.norm(out[:, 1]).logpdf(-1),
        last[:, 3],
    ]
    np.testing.assert_allclose(found, np.stack(exact, 1), rtol=1e-4, atol=1e-5)


def test_draws_have_the_frequencies_of_the_columns(mixed):
    px, _ = mixed
    draws = jax.vmap(px.sample)(jax.random.split(jax.random.key(0), 4000))[:, 0]
    mean = np.asarray(features(draws, COLUMNS).mean(0))
    expected = np.asarray(expectation(px)[0])
    spread = np.asarray(features(draws, COLUMNS).std(0)) / np.sqrt(4000)
    assert (np.abs(mean - expected) <= 5 * spread + 1e-6).all()
    chosen = np.asarray(decide(expectation(px)[0], COLUMNS))
    assert set(chosen[:, 4]) <= {0, 1}
    assert (chosen[:, 0] == np.asarray(px.logits[0][0, :, 0]).argmax(-1)).all()


def test_an_encoder_reads_nothing_from_a_hole():
    mask = jnp.asarray([[0, 1, 0, 1, 0, 1, 0]], jnp.float32)
    one = {"x": jnp.zeros((1, 7)), "mask": mask}
    other = {"x": jnp.where(mask == 1, 0.0, 1.0), "mask": mask}
    reader = Reader(COLUMNS)
    a, b = (reader.apply({}, batch) for batch in (one, other))
    assert a.shape == (1, 12)
    assert (a == b).all()


def test_what_is_observed_is_written_as_it_was_read(run, people, tmp_path):
    """All holes are filled, also of a row that is empty; draws differ in them alone."""
    out = tmp_path / "filled.csv"
    fill_file(run, people, out, 2, 20, "importance", 0)
    head, *before = cells(people)
    for path in (out, tmp_path / "filled-1.csv", tmp_path / "filled-2.csv"):
        same_head, *after = cells(path)
        assert same_head == head
        for old, new in zip(before, after, strict=True):
            assert all(new)
            assert all(o in ("", n) for o, n in zip(old, new, strict=True))
        assert {row[1] for row in after} == {"Lima", "Oslo", "Rome"}
        assert {row[4] for row in after} == {"kg"}
    assert cells(tmp_path / "filled-1.csv") != cells(tmp_path / "filled-2.csv")


@pytest.mark.parametrize("method", ["importance", "pseudo_gibbs", "metropolis"])
def test_every_method_fills_and_a_seed_says_all(method, run, people, tmp_path):
    for name in ("a", "b"):
        fill_file(run, people, tmp_path / f"{name}.csv", 0, 10, method, 3)
    assert cells(tmp_path / "a.csv") == cells(tmp_path / "b.csv")
    assert all(all(row) for row in cells(tmp_path / "a.csv"))


def test_the_order_of_columns_is_the_inputs(run, people, tmp_path):
    frame = pd.read_csv(people, dtype=str)[::-1].iloc[:, ::-1]
    frame.to_csv(tmp_path / "turned.csv", index=False)
    out = tmp_path / "out.csv"
    fill_file(run, tmp_path / "turned.csv", out, 0, 10, "importance", 0)
    assert cells(out)[0] == cells(people)[0][::-1]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda f: f.drop(columns="age"), "lacks ['age']"),
        (lambda f: f.assign(more="1"), "has ['more'] besides"),
        (lambda f: f.assign(city="Paris"), "'Paris', which training did not see"),
        (lambda f: f.assign(age="old"), "column 'age'"),
    ],
)
def test_tables_unlike_the_one_that_was_trained_on(
    change, fragment, run, people, tmp_path
):
    change(pd.read_csv(people, dtype=str)).to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(InputError) as raised:
        fill_file(run, tmp_path / "in.csv", tmp_path / "out.csv", 0, 5, "importance", 0)
    assert fragment in str(raised.value)
    assert not (tmp_path / "out.csv").exists()


def test_names_of_files_say_what_they_are(run, people, tmp_path):
    for source, out in ((people, "out.npz"), (tmp_path / "x.txt", "out.txt")):
        with pytest.raises(InputError, match="must end in"):
            fill_file(run, source, tmp_path / out, 0, 5, "importance", 0)


def test_an_npz_table_is_filled_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, size=(60, 4)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    np.savez(tmp_path / "t.npz", x_train=x)
    filled = filled_npz(tmp_path, tmp_path / "t.npz")
    assert filled.dtype == x.dtype
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])


def test_images_are_filled_where_their_mask_says(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(40, 6, 6), dtype=np.uint8)
    mask = rng.random(x.shape) < 0.5
    np.savez(tmp_path / "i.npz", x_train=x, mask_train=mask)
    filled = filled_npz(tmp_path, tmp_path / "i.npz", likelihood="gaussian")
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[mask], x[mask])
    assert not np.array_equal(filled[~mask], x[~mask])


def test_collapsed_weights_are_told():
    fine = Filled(np.zeros((2, 1)), np.zeros((0, 2, 1)), np.array([50.0, 12.0]))
    assert not collapse(fine, 100)
    assert "1 of 2 examples" in collapse(fine._replace(ess=np.array([50.0, 2.0])), 100)


def test_not_miwae_refuses_what_it_cannot_differentiate(people):
    with pytest.raises(InputError, match="needs its gradient"):
        presets.not_miwae(dataset=f"csv:{people}")
    with pytest.raises(InputError, match="needs its gradient"):
        presets.not_miwae(dataset="digits", likelihood="bernoulli")
