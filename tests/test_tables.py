"""Tables as people write them: each of these was once read or written wrongly."""

import numpy as np
import pandas as pd
import pytest

from tests.test_impute import holey, trained
from vaejax import InputError, presets
from vaejax.apply.tables import open_holey
from vaejax.cli.examples import fill_file
from vaejax.data import open_dataset
from vaejax.data.numerals import text_of
from vaejax.data.spec import Column

TINY = {"hidden": (6,), "latents": 2, "epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": [f"{a:.1f}" for a in rng.normal(40, 10, 60)],
            "visits": rng.poisson(2, 60).astype(str),
            "member": np.where(rng.random(60) < 0.5, "yes", "no"),
            "day": "20251125",
        }
    )
    path = tmp_path_factory.mktemp("bugs") / "t.csv"
    holey(frame, rng).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bugs")
    return trained(folder, f"csv:{source}", counts=("visits",), **TINY)


def test_black_and_white_images_reach_the_model_as_zeros_and_ones(tmp_path):
    x = np.where(np.random.default_rng(0).random((40, 4, 4)) < 0.5, 0, 255)
    mask = np.random.default_rng(1).random(x.shape) < 0.7
    np.savez(tmp_path / "i.npz", x_train=x.astype(np.uint8), mask_train=mask)
    spec = open_dataset(f"npz:{tmp_path / 'i.npz'}").spec
    holey = open_holey(tmp_path / "i.npz", spec)
    holey.write(holey.x, tmp_path / "o.npz")
    with np.load(tmp_path / "o.npz") as file:
        assert set(np.unique(file["x"])) == {0, 255}
    assert set(np.unique(holey.x)) == {0, 1}


@pytest.mark.parametrize("row", [",-2,,", "inf,,,", ",1.5,,"])
def test_numbers_that_training_refuses_are_refused(row, run, tmp_path):
    (tmp_path / "in.csv").write_text(f"age,visits,member,day\n{row}\n30,2,,\n")
    with pytest.raises(InputError):
        fill_file(run, tmp_path / "in.csv", tmp_path / "o.csv", 0, 9, "importance", 0)


def test_more_cells_than_names_are_refused(run, tmp_path):
    text = "age,visits,member,day\n9,30,2,yes,20251125\n9,31,2,,\n"
    (tmp_path / "in.csv").write_text(text)
    with pytest.raises(InputError):
        fill_file(run, tmp_path / "in.csv", tmp_path / "o.csv", 0, 9, "importance", 0)


def test_a_constant_is_written_as_it_is():
    assert text_of(20251125.0, Column("day", "constant")) == "20251125"


def test_a_column_without_a_name_keeps_it(tmp_path):
    text = ",b\n" + "".join(f"{n},{n * n % 7}\n" for n in range(40)) + "3,\n"
    (tmp_path / "t.csv").write_text(text)
    spec = open_dataset(f"csv:{tmp_path / 't.csv'}").spec
    holey = open_holey(tmp_path / "t.csv", spec)
    holey.write(holey.x, tmp_path / "o.csv")
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == ",b"


def test_rows_of_one_empty_cell_are_rows(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n\n2\n\n3\n4\n")
    assert sum(open_dataset(f"csv:{tmp_path / 't.csv'}").spec.sizes.values()) == 6


@pytest.mark.parametrize("cell", ["inf", "NAN", "x"])
def test_counts_that_are_none_are_refused(cell, tmp_path):
    others = ("x", "y", "y") if cell == "x" else ("1", "3", "4")
    (tmp_path / "t.csv").write_text("\n".join(["a", cell, *others]) + "\n")
    with pytest.raises(InputError):
        open_dataset(f"csv:{tmp_path / 't.csv'}", counts=("a",))


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "logistic_mixture"])
def test_a_likelihood_of_grey_values_does_not_fit_real_columns(name, source):
    with pytest.raises(InputError, match="does not fit"):
        presets.miwae(dataset=f"csv:{source}", likelihood=name, **TINY)


def test_whole_numbers_are_rounded_not_cut(tmp_path):
    x = np.tile(np.arange(40)[:, None], (1, 2))
    mask = np.ones(x.shape, int)
    mask[0, 0] = 0
    np.savez(tmp_path / "t.npz", x_train=x, mask_train=mask)
    spec = open_dataset(f"npz:{tmp_path / 't.npz'}").spec
    holey = open_holey(tmp_path / "t.npz", spec)
    units = np.where(holey.mask, x, 4.9)
    holey.write((units - spec.mean) / spec.scale, tmp_path / "o.npz")
    with np.load(tmp_path / "o.npz") as file:
        assert file["x"][0, 0] == 5


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.full((2, 3), "a")])
def test_arrays_without_numbers_are_refused(x, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", x_train=rng.normal(size=(40, 3)))
    spec = open_dataset(f"npz:{tmp_path / 't.npz'}").spec
    np.savez(tmp_path / "in.npz", x=x)
    with pytest.raises(InputError):
        open_holey(tmp_path / "in.npz", spec)
