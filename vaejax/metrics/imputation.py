"""Errors of imputations where the truth was hidden on purpose."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.data.spec import Column
from vaejax.distributions.columns import are_numbers, decide
from vaejax.experiment import Metric, Quantity
from vaejax.inference.imputation import (
    LEAST_ESS,
    Imputation,
    importance_imputation,
)
from vaejax.types import Array, Batch, Key, Variables

DRAWS = 199
"""Imputations that intervals are of: the 5th and the 195th bound exactly 95 %."""

UNITS = "model's units"
QUANTITIES = {
    "rmse": Quantity("root mean squared error of hidden numbers", UNITS),
    "accuracy": Quantity("share of right hidden categories", "share", in_line=True),
    "coverage": Quantity("share of hidden numbers within their 95 % interval"),
    "width": Quantity("mean width of these intervals", UNITS),
    "crps": Quantity("continuous ranked probability score", UNITS),
    "ess": Quantity("mean effective sample size of importance weights"),
    "collapsed": Quantity("share of examples where it is below 10"),
}


def imputation(
    samples: int, columns: tuple[Column, ...] = (), *, of_means: bool = False
) -> Metric:
    """Error, calibration and sharpness of imputations where the truth is known.

    In the model's units (tables: standardized). `rmse` is of the importance-weighted
    mean over all hidden entries that are numbers; `accuracy` the share of right values
    among the others. Of 199 draws: `coverage` is the share of truths within the 95 %
    interval, `width` its mean width, `crps` the continuous ranked probability score
    E|x - t| - E|x - x'| / 2 [Gneiting & Raftery 2007, eq. 21]. `ess` is the mean
    effective sample size, `collapsed` the share of examples where it is below 10.

    Args:
      samples: importance samples.
      columns: of a table of numbers and categories.
      of_means: as `importance_imputation` takes it.
    """
    kinds = any(column.kind in ("binary", "category") for column in columns)

    def init() -> dict[str, Array]:
        names = ("hidden", "squares", "covered", "width", "crps", "categories", "right")
        return {n: jnp.zeros(()) for n in (*names, "examples", "ess", "collapsed")}

    def update(
        acc: dict[str, Array],
        model: nn.Module,
        variables: Variables,
        batch: Batch,
        key: Key,
    ) -> dict[str, Array]:
        found = importance_imputation(
            model,
            variables,
            batch,
            key,
            samples=samples,
            draws=DRAWS,
            of_means=of_means,
        )
        sums = sums_of(found, batch, columns)
        return acc | {name: acc[name] + value.sum() for name, value in sums.items()}

    def compute(acc: dict[str, Array]) -> dict[str, Array]:
        def share(name: str, of: str) -> Array:
            return acc[name] / jnp.maximum(acc[of], 1)

        accuracy = {"accuracy": share("right", "categories")} if kinds else {}
        return accuracy | {
            "rmse": jnp.sqrt(share("squares", "hidden")),
            "coverage": share("covered", "hidden"),
            "width": share("width", "hidden"),
            "crps": share("crps", "hidden"),
            "ess": share("ess", "examples"),
            "collapsed": share("collapsed", "examples"),
        }

    told = {n: q for n, q in QUANTITIES.items() if kinds or n != "accuracy"}
    return Metric(init, update, compute, told)


def sums_of(
    found: Imputation, batch: Batch, columns: tuple[Column, ...]
) -> dict[str, Array]:
    """Terms of the sums over examples and entries of a batch."""
    weight, truth = batch["weight"], batch["truth"]
    hidden = batch["hidden"] * weight.reshape(-1, *(1,) * (truth.ndim - 1))
    of_number = are_numbers(columns) if columns else np.ones(truth.shape[1:], bool)
    number, other = hidden * of_number[None], hidden * ~of_number[None]
    value = decide(found.mean, columns) if columns else found.mean
    low, high = interval(found.draws)
    return {
        "hidden": number,
        "squares": number * jnp.square(value - truth),
        "covered": number * ((low <= truth) & (truth <= high)),
        "width": number * (high - low),
        "crps": number * crps(found.draws, truth),
        "categories": other,
        "right": other * (value == truth),
        "examples": weight,
        "ess": weight * found.ess,
        "collapsed": weight * (found.ess < LEAST_ESS),
    }


def interval(draws: Float[Array, "draws ..."]) -> tuple[Array, Array]:
    """The bounds of the 95 % interval of 40 m - 1 draws, by order statistics.

    Where truth and draws are exchangeable, it lies between the m-th and the m-th last
    with probability 1 - 2 m / (draws + 1).
    """
    ordered, out = jnp.sort(draws, 0), (len(draws) + 1) // 40
    return ordered[out - 1], ordered[-out]


def crps(draws: Float[Array, "draws ..."], truth: Float[Array, " ..."]) -> Array:
    """The unbiased estimate of the score from draws, in the units of `truth`."""
    count = len(draws)
    rank = (2 * jnp.arange(1, count + 1) - count - 1).reshape(-1, *(1,) * truth.ndim)
    pairs: Any = (rank * jnp.sort(draws, 0)).sum(0) / (count * (count - 1) / 2)
    return jnp.abs(draws - truth[None]).mean(0) - pairs / 2
