"""Imputations of tables, by scikit-learn's imputers and by MIWAE."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax.data import from_arrays
from vaejax.reproduction.tables import read_tables
from vaejax.training.loop import train

Values = Mapping[str, Any]


class Work(NamedTuple):
    """One seed of a run, trained where it has a preset."""

    workdir: Path
    seed: int
    settings: Mapping[str, Any]
    tables: Path | None


def imputer(method: str, seed: int) -> Any:
    """One of scikit-learn's imputers."""
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    trees: dict[str, Any] = {"n_estimators": 100, "random_state": seed}
    made: Mapping[str, Callable[[], Any]] = {
        "mean": SimpleImputer,
        "knn": KNNImputer,
        "bayesian_ridge": lambda: IterativeImputer(random_state=seed),
        "extra_trees": lambda: IterativeImputer(
            ExtraTreesRegressor(**trees), random_state=seed
        ),
        "random_forest": lambda: IterativeImputer(
            RandomForestRegressor(**trees), random_state=seed
        ),
    }
    return made[method]()


def fill(method: str, seed: int, x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The table with its hidden entries filled."""
    with warnings.catch_warnings(action="ignore"):  # it says that 10 rounds are few
        return imputer(method, seed).fit_transform(np.where(hidden, np.nan, x))


def missing_at_random(work: Work, *, table: str, method: str) -> Values:
    """The mean squared error of a table of which exactly half is hidden.

    The protocol of MIWAE [Mattei & Frellsen 2019, sec. 4.2]: the seed chooses what is
    hidden, without replacement; standardized by the complete table; the hidden entries
    of the training rows themselves are scored. MIWAE has the settings of the run.

    Args:
      work: the run, which has no preset: a table is trained on where `method` says so.
      table: by its name.
      method: miwae, or one of scikit-learn's imputers.
    """
    from vaejax import impute, presets

    x = read_tables(needed(work))[table]
    experiment = presets.miwae(
        dataset=from_arrays(x, x_test=x),
        hide="exact",
        hide_rate=0.5,
        hide_seed=work.seed,
        seed=work.seed,
        **work.settings,
    )
    arrays = experiment.dataset.split("train")
    x, hidden = arrays["x"], arrays["hidden"] == 1
    if method == "miwae":
        state = train(experiment, quiet=True, devices=1)
        key = jax.random.key(work.seed)
        filled = impute(experiment, state, x, ~hidden, key, samples=10_000).single
    else:
        filled = fill(method, work.seed, x, hidden)
    return {"mse": float(np.square(filled - x)[hidden].mean())}


def missing_above_mean(work: Work, *, table: str, method: str, columns: int) -> Values:
    """The root mean squared error of scikit-learn's imputers where the first columns
    are missing above their mean [Ipsen et al. 2021, sec. 4.1], standardized.
    """
    x = read_tables(needed(work), dropped=True)[table]
    x = (x - x.mean(0)) / x.std(0)
    hidden = (x > 0) & (np.arange(x.shape[1]) < columns)
    filled = fill(method, work.seed, x, hidden)
    return {"rmse": float(np.sqrt(np.square(filled - x)[hidden].mean()))}


def needed(work: Work) -> Path:
    """The file of tables, which `settings_at` has asked for."""
    assert work.tables is not None
    return work.tables
