"""Holes in data: people's own, and those that are hidden on purpose."""

import jax
import numpy as np
import pytest

from vaejax import InputError, from_arrays, presets
from vaejax.data import masks, open_dataset
from vaejax.data.context import anything
from vaejax.data.holes import hide
from vaejax.presets import PRESETS

N, D = 2000, 6


@pytest.fixture(scope="module")
def table():
    x = np.random.default_rng(0).normal(3, 2, size=(N, D))
    return from_arrays(x, x_test=x)


@pytest.fixture(scope="module")
def images():
    x = np.random.default_rng(0).integers(0, 256, size=(300, 8, 10), dtype=np.uint8)
    return from_arrays(x)


def observed(dataset, how, **settings):
    return hide(dataset, how, **settings).split("train")["mask"] == 1


def test_rates_are_what_was_asked_for(table):
    hidden = ~observed(table, "mcar", rate=0.3)
    error = np.sqrt(0.3 * 0.7 / hidden.size)
    assert abs(hidden.mean() - 0.3) < 4 * error
    assert (~observed(table, "exact", rate=0.3)).sum() == int(N * D * 0.3)


def test_mar_depends_on_what_is_observed_and_mnar_on_itself(table):
    x = table.split("train")["x"]
    hidden = ~observed(table, "mar", rate=0.4)
    assert not hidden[:, :3].any()
    score, error = x[:, :3].sum(1), np.sqrt(0.24 / N)
    for column in range(3, 6):
        assert abs(hidden[:, column].mean() - 0.4) < 4 * error
        assert np.corrcoef(hidden[:, column], score)[0, 1] > 0.4
        assert abs(np.corrcoef(hidden[:, column], x[:, column])[0, 1]) < 4 / np.sqrt(N)
    hidden = ~observed(table, "mnar", rate=0.4)
    assert not hidden[:, 3:].any()
    for column in range(3):
        assert np.corrcoef(hidden[:, column], x[:, column])[0, 1] > 0.4


def test_above_mean_is_the_rule_of_not_miwae(table):
    x = table.split("train")["x"]
    hidden = ~observed(table, "above_mean", columns=2)
    assert (hidden[:, :2] == (x[:, :2] > x[:, :2].mean(0))).mean() > 0.999  # float32
    assert not hidden[:, 2:].any()


@pytest.mark.parametrize("how", ["rectangle", "quadrant", "half", "mcar"])
def test_shapes_of_images(how, images):
    """All channels alike; a quadrant and a half have their areas."""
    seen = observed(images, how).reshape(-1, 8, 10)
    share = 1 - seen.mean((1, 2))
    if how == "quadrant":
        assert (share == 0.25).all()
    if how == "half":
        assert (share == 0.5).all()
    if how == "rectangle":
        rows, columns = (~seen).any(2), (~seen).any(1)
        assert ((~seen) == (rows[:, :, None] & columns[:, None, :])).all()
        assert share.min() >= 4 / 80  # a quarter of each side at least
    assert len({mask.tobytes() for mask in seen}) > 3


@pytest.mark.parametrize(("how", "width"), [("mcar", 80), ("rectangle", 4)])
def test_a_mask_belongs_to_its_example(how, width):
    """It does not change with how many others there are."""
    few, many = (masks.uniforms(3, 0, count, width) for count in (5, 50))
    assert np.array_equal(few, many[:5])
    if how == "rectangle":
        small = masks.rectangle(few, 8, 10)
        assert np.array_equal(small, masks.rectangle(many, 8, 10)[:5])


def test_hiding_is_the_same_each_time_and_another_with_another_seed(table):
    one, same, other = (observed(table, "mcar", seed=s) for s in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_truth_of_what_was_hidden_is_kept_and_of_holes_is_not():
    x = np.random.default_rng(0).normal(size=(50, 4))
    x[::3, 1] = np.nan
    experiment = presets.miwae(
        dataset=from_arrays(x, x_test=x), hide="mcar", batch_size=10
    )
    arrays = experiment.dataset.split("train")
    raw = arrays | {"index": np.arange(50)}
    batch = experiment.preprocess.apply(raw, jax.random.key(0))
    hole, hidden = np.isnan(x), np.asarray(batch["hidden"]) == 1
    assert not (hole & hidden).any()
    assert (np.asarray(batch["mask"]) == (~hole & ~hidden)).all()
    assert (np.asarray(batch["x"])[hole | hidden] == 0).all()
    restored = experiment.preprocess.restore(np.asarray(batch["truth"]))
    np.testing.assert_allclose(restored[hidden], x[hidden], atol=1e-5)


@pytest.mark.parametrize(
    ("how", "settings", "fragment"),
    [
        ("rectangle", {}, "does not fit"),
        ("mcar", {"rate": 0.0}, "--hide-rate"),
        ("mcar", {"rate": 1.0}, "--hide-rate"),
        ("mnar", {"columns": D}, "--hide-columns"),
    ],
)
def test_what_cannot_be_hidden(how, settings, fragment, table):
    with pytest.raises(InputError, match=fragment):
        hide(table, how, **settings)


def test_mnar_is_of_tables(images):
    with pytest.raises(InputError, match="does not fit"):
        hide(images, "mnar")


def test_nan_is_a_mask_and_the_rest_is_standardized_by_itself():
    x = np.random.default_rng(0).normal(5, 3, size=(200, 3))
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    x[4] = np.nan
    dataset = from_arrays(x, x_test=x)
    arrays = dataset.split("train")
    assert (arrays["mask"] == ~np.isnan(x)).all()
    assert (arrays["x"][np.isnan(x)] == 0).all()
    np.testing.assert_allclose(dataset.spec.mean, np.nanmean(x, 0))
    np.testing.assert_allclose(dataset.spec.scale, np.nanstd(x, 0))


def test_masks_stay_beside_their_rows_when_some_are_held_out():
    x = np.arange(300.0).reshape(100, 3)
    x[::7, 1] = np.nan
    split = open_dataset(from_arrays(x, x_test=x), validation=0.2)
    for name in ("train", "validation"):
        arrays = split.split(name)
        own = arrays["x"] * np.array(split.spec.scale) + np.array(split.spec.mean)
        row = np.round((own[:, 0]) / 3).astype(int)
        assert (arrays["mask"][:, 1] == (row % 7 != 0)).all()


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        ({"x_train": np.array([[1.0, np.nan]] * 20)}, "no entry of column 1"),
        ({"x_train": np.array([[1.0, np.inf]] * 20)}, "infinite"),
        (
            {"x_train": np.ones((20, 2)), "mask_train": np.ones((20, 3))},
            "shape",
        ),
        (
            {"x_train": np.ones((20, 2)), "mask_train": np.full((20, 2), 2)},
            "must be 1",
        ),
        ({"x_train": np.ones((20, 2)), "mask_test": np.ones((2, 2))}, "no x_test"),
    ],
)
def test_tables_with_holes_that_cannot_be_used(arrays, fragment):
    with pytest.raises(InputError, match=fragment):
        from_arrays(**arrays)


@pytest.mark.parametrize("name", ["gan", "vaegan", "cvaegan", "classifier", "ali"])
def test_critics_refuse_holes(name):
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = np.arange(200) % 2
    with pytest.raises(InputError, match="has holes"):
        PRESETS[name](dataset=from_arrays(x, y), hide="mcar")


@pytest.mark.parametrize("shape", [(400, 9), (400, 8, 8, 3)])
def test_any_part_may_be_seen(shape):
    seen = np.asarray(anything(jax.random.key(0), shape))
    share = seen.reshape(400, -1).mean(1)
    assert set(np.unique(seen)) == {0, 1}
    assert share.min() < 0.2
    assert share.max() > 0.8
    assert (share == 0.5).mean() > 0.2 or len(shape) == 2
    if len(shape) == 4:
        assert (seen == seen[..., :1]).all()


def test_what_numpy_ma_masks_is_a_hole():
    """-9999 under the mask has no say in the mean; NaN and a mask add up."""
    x = np.random.default_rng(0).normal(10, 1, (60, 2))
    gone = np.arange(120).reshape(60, 2) % 5 == 0
    masked = np.ma.masked_array(np.where(gone, -9999, x), gone)
    dataset = from_arrays(masked, x_test=masked)
    assert dataset.spec.masked
    wanted = np.nanmean(np.where(gone, np.nan, x), 0)
    np.testing.assert_allclose(dataset.spec.mean, wanted)
    assert (dataset.split("train")["mask"] == ~gone).all()
    other = np.arange(120).reshape(60, 2) % 3 > 0
    both = from_arrays(masked, mask_train=other, x_test=masked).split("train")["mask"]
    assert (both == (~gone & other)).all()
    images = np.ma.masked_array(np.full((40, 4, 4), 9, np.uint8), False)
    images[:, 0, 0] = np.ma.masked
    seen = from_arrays(images).split("train")["mask"]
    assert (seen.sum(1) == 15).all()
    with pytest.raises(InputError, match="masked array"):
        from_arrays(x, np.ma.masked_array(np.zeros(60, int), np.arange(60) < 3))


def test_sparse_matrices_are_their_dense_tables():
    from scipy import sparse

    x = np.random.default_rng(0).poisson(0.5, (60, 4)).astype(np.float32)
    one, other = from_arrays(sparse.csr_array(x)), from_arrays(x)
    assert one.spec == other.spec
    assert from_arrays(sparse.csc_matrix(x)).spec == other.spec
    wide = sparse.csr_array((10**7, 10**6), dtype=np.float32)
    with pytest.raises(InputError, match="74,505"):
        from_arrays(wide)
