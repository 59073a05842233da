"""The estimators of scikit-learn."""

import pickle

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.impute import MissingIndicator
from sklearn.pipeline import make_union
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaejax.sklearn import VAEClassifier, VAEImputer, VAETransformer

TINY = VAEImputer(hidden=(4,), latents=2, epochs=1, samples=5)
ENCODER = VAETransformer(hidden=(4,), latents=1, epochs=1, samples=5)
# Checks ask for an accuracy of .83 on clouds.
TELLER = VAEClassifier(hidden=(8,), latents=1, epochs=40, learning_rate=0.02)


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory):
    """The checks fit the same small shapes again and again."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # checks warn of what they try
@parametrize_with_checks([TINY, ENCODER, TELLER])
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


@pytest.fixture(scope="module")
def encoder(table):
    """Fitted to rows about a line, whose holes are filled by means."""
    x = table.fillna(table.mean())
    made = VAETransformer(
        hidden=(8,), latents=1, epochs=150, learning_rate=0.02, samples=200
    )
    return made.fit(x), x


def test_latents_lead_back_to_rows(encoder):
    """And name the columns; the score is that of densities in the table's units."""
    made, x = encoder
    z = made.transform(x)
    assert z.shape == (80, 1)
    assert list(made.get_feature_names_out()) == ["vaetransformer0"]
    rebuilt = made.inverse_transform(z)
    left = ((x.to_numpy() - rebuilt) ** 2).sum() / (
        (x - x.mean()) ** 2
    ).to_numpy().sum()
    best = PCA(1).fit(x).explained_variance_ratio_.sum()
    assert 1 - left > best - 0.1


def test_the_score_is_a_likelihood_in_units_of_the_table(encoder):
    """Below that of the exact maximum of a linear model's, by little; and when all
    numbers are ten times as large, log 10 a column less.
    """
    made, x = encoder
    exact = PCA(1).fit(x).score(x)
    assert exact - 0.6 < made.score(x) < exact + 0.6
    other = clone(made).fit(10 * x)
    assert other.score(10 * x) == pytest.approx(made.score(x) - 4 * np.log(10), abs=0.2)


def test_a_few_labels_are_enough():
    """-1 is no label; classes are those of the others, and texts stay texts."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.normal(size=(200, 2)) + 4 * y[:, None]
    few = np.where(np.arange(200) < 6, 3 + 4 * y, -1)
    teller = clone(TELLER).set_params(epochs=60).fit(x, few)
    assert teller.classes_.tolist() == [3, 7]
    assert teller.score(x, 3 + 4 * y) > 0.95
    np.testing.assert_allclose(teller.predict_proba(x).sum(1), 1)
    again = pickle.loads(pickle.dumps(teller))
    assert (again.predict(x) == teller.predict(x)).all()
    named = np.where(y, "right", "left")
    assert set(clone(TELLER).set_params(epochs=1).fit(x, named).predict(x)) <= {
        "left",
        "right",
    }
    with pytest.raises(ValueError, match="all labels are -1"):
        clone(TELLER).fit(x, np.full(200, -1))
