"""The scikit-learn transformer."""

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.impute import MissingIndicator
from sklearn.pipeline import make_union
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaejax.sklearn import VAEImputer

TINY = VAEImputer(hidden=(4,), latents=2, epochs=1, samples=5)


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """The checks fit the same small shapes again and again."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # checks warn of what they try
@parametrize_with_checks([TINY])
def test_it_keeps_the_contract_of_estimators(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 1)) @ np.ones((1, 4)) + 0.3 * rng.normal(size=(80, 4))
    x[rng.random(x.shape) < 0.3] = np.nan
    return pd.DataFrame(10 + 3 * x, columns=pd.Index(["a", "b", "c", "d"]))


def test_observed_entries_stay_bit_for_bit_and_holes_are_filled(table):
    filled = TINY.fit_transform(table)
    there = table.notna().to_numpy()
    assert np.array_equal(filled[there], table.to_numpy()[there])
    assert np.isfinite(filled).all()


def test_names_survive_and_other_columns_are_refused(table):
    imputer = VAEImputer(hidden=(4,), latents=2, epochs=1, samples=5)
    frame = imputer.set_output(transform="pandas").fit_transform(table)
    assert list(frame.columns) == list("abcd")
    assert list(imputer.get_feature_names_out()) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(table.rename(columns={"d": "e"}))


def test_what_is_missing_everywhere(table):
    """A row gets the model's means; a column nothing was learned of gets 0."""
    x = table.to_numpy().copy()
    x[3] = np.nan
    x[:, 1] = np.nan
    filled = TINY.fit(x).transform(x)
    assert np.isfinite(filled).all()
    assert (filled[:, 1] == 0).all()
    with pytest.raises(ValueError, match="all of the table is missing"):
        TINY.fit(np.full((5, 3), np.nan))


def test_a_constant_column_is_filled_with_its_value(table):
    """To float32, as the scale of the likelihood's column is 1 and its mean 0."""
    x = table.to_numpy().copy()
    x[:, 2] = np.where(np.isnan(x[:, 2]), np.nan, 7.0)
    imputer = VAEImputer(hidden=(4,), latents=2, epochs=200, samples=20)
    filled = imputer.fit(x).transform(x)
    assert np.abs(filled[:, 2] - 7).max() < 0.2


def test_draws_differ_by_the_seed_and_go_around_the_mean(table):
    one, other = (
        VAEImputer(
            hidden=(4,), latents=2, epochs=1, samples=50, draw=True, random_state=s
        )
        for s in (0, 1)
    )
    holes = table.isna().to_numpy()
    a, b = one.fit_transform(table), other.fit_transform(table)
    assert not np.isclose(a[holes], b[holes]).any()
    assert np.array_equal(a[~holes], b[~holes])


def test_it_stands_in_a_union(table):
    both = make_union(TINY, MissingIndicator())
    assert both.fit_transform(table).shape == (80, 8)


def test_what_numpy_ma_masks_is_filled():
    """As the same table with NaN there, whatever lies under the mask."""
    x = np.random.default_rng(0).normal(10, 1, (40, 2))
    gone = np.arange(80).reshape(40, 2) % 5 == 0
    imputer = VAEImputer(hidden=(4,), latents=1, epochs=1, samples=5)
    filled = imputer.fit_transform(np.ma.masked_array(np.where(gone, -9999, x), gone))
    assert (filled[~gone] == x[~gone]).all()
    assert (np.abs(filled[gone] - 10) < 6).all()
