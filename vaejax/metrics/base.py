"""Metrics as folds: exact over a split, whatever the batch size and the padding."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Each, Metric, Quantity
from vaejax.types import Array, Batch, Key, Variables


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations of weighted examples.

    Merged pairwise [Chan et al. 1983], so that float32 keeps its precision over a
    large split.
    """

    count: Array
    mean: Array
    squares: Array

    @property
    def variance(self) -> Array:
        """Unbiased variance over examples."""
        return self.squares / jnp.maximum(self.count - 1, 1)

    @property
    def standard_error(self) -> Array:
        """Standard error of the mean over examples; NaN of fewer than two."""
        error = jnp.sqrt(self.variance / jnp.maximum(self.count, 1))
        return jnp.where(self.count > 1, error, jnp.nan)


def no_moments(shape: tuple[int, ...] = ()) -> Moments:
    """Moments of no examples."""
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def moments(values: Array, weight: Array) -> Moments:
    """Moments over the leading axis of `values` `[batch, ...]`, weights 0 or 1."""
    w = weight.reshape((-1,) + (1,) * (values.ndim - 1))
    values = jnp.where(w > 0, values, 0)
    count = weight.sum()
    mean = (w * values).sum(0) / jnp.maximum(count, 1)
    squares = (w * jnp.square(values - jnp.expand_dims(mean, 0))).sum(0)
    return Moments(count, mean, squares)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the union of two sets of examples."""
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    delta = b.mean - a.mean
    return Moments(
        count,
        a.mean + share * delta,
        a.squares + b.squares + jnp.square(delta) * a.count * share,
    )


def ratio(a: Moments, b: Moments, both: Moments) -> tuple[Array, Array]:
    """Mean of a over mean of b, and its standard error, to first order.

    `both` are the moments of a + b, which hold their covariance.
    """
    found = a.mean / jnp.maximum(b.mean, 1e-12)
    covariance = (both.variance - a.variance - b.variance) / 2
    variance = a.variance - 2 * found * covariance + jnp.square(found) * b.variance
    error = jnp.sqrt(jnp.maximum(variance, 0) / jnp.maximum(a.count, 1))
    error = jnp.where(a.count > 1, error, jnp.nan)
    return found, error / jnp.maximum(b.mean, 1e-12)


Values = Callable[[nn.Module, Variables, Batch, Key], Mapping[str, Array]]


def averages(
    quantities: Mapping[str, Quantity], values: Values, counted: str = ""
) -> Metric:
    """The means over a split of per-example `values`, each with its standard error.

    Args:
      quantities: what is averaged, by name.
      values: `values(model, variables, batch, key)` gives an array `[batch]` for each
        of these names.
      counted: name of one more of the values, 1 for examples that are averaged over and
        0 for others; without, all are.

    Returns:
      A metric that gives each mean under its name and the standard error, in the same
      unit, as `NAME_se`.
    """

    def init() -> dict[str, Moments]:
        return {name: no_moments() for name in quantities}

    def fold(
        acc: dict[str, Moments], new: Mapping[str, Array], weight: Array
    ) -> dict[str, Moments]:
        weight = weight * new[counted] if counted else weight
        return {n: merge(acc[n], moments(new[n], weight)) for n in quantities}

    def update(
        acc: dict[str, Moments],
        model: nn.Module,
        variables: Variables,
        batch: Batch,
        key: Key,
    ) -> dict[str, Moments]:
        return fold(acc, values(model, variables, batch, key), batch["weight"])

    def compute(acc: dict[str, Moments]) -> dict[str, Array]:
        means = {name: m.mean for name, m in acc.items()}
        return means | {f"{name}_se": m.standard_error for name, m in acc.items()}

    return Metric(init, update, compute, quantities, Each(values, fold))
