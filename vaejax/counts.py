"""Counts 0, 1, 2, ...: Poisson and negative binomial, by the logarithm of their mean.

Both are computed by deviances [Loader 2000, "Fast and accurate computation of binomial
probabilities"]: `x log(mu) - mu - log x!` subtracts numbers that are millions of times
its value where counts are large, which float32 does not survive.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float
from numpyro.distributions import constraints

from vaejax.likelihoods import Likelihood
from vaejax.types import Array, Batch, Distribution, Key

LARGEST = 20.0
"""Of logarithms of means and dispersions: 4.9e8, which draws as int32 can hold."""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
DIRECT = 10.0
"""Below it log-factorials are small enough to be subtracted."""


class Poisson(dist.Distribution):
    """Poisson(mu), mu = exp(log_mean); `log_prob` is elementwise, nats."""

    arg_constraints = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("log_mean",)

    def __init__(self, log_mean: Array) -> None:
        self.log_mean = jnp.minimum(log_mean, LARGEST)
        super().__init__(batch_shape=jnp.shape(log_mean), validate_args=False)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_mean)

    @property
    def variance(self) -> Array:
        return self.mean

    def log_prob(self, value: Array) -> Array:
        """x log mu - mu - log x!, nats."""
        large = value >= DIRECT
        x = jnp.where(large, value, DIRECT)
        deviance = half_deviance(x, self.log_mean - jnp.log(x))
        far = -deviance - stirling_error(x) - HALF_LOG_TAU - 0.5 * jnp.log(x)
        near = value * self.log_mean - self.mean - log_factorial(value)
        return jnp.where(large, far, near)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape)
        return jax.random.poisson(key, self.mean, shape)


class NegativeBinomial(dist.Distribution):
    """Counts of mean mu and variance mu + mu^2 / theta; `log_prob` elementwise, nats.

    Gamma(x + theta) / (Gamma(theta) x!) (theta / (theta + mu))^theta
    (mu / (theta + mu))^x [Lopez et al. 2018, scVI], theta the inverse dispersion; as
    theta grows this is Poisson(mu).

    Args:
      log_mean: log mu `[..., D]`.
      log_inverse_dispersion: log theta, of the same number of axes.
    """

    arg_constraints = {
        "log_mean": constraints.real,
        "log_inverse_dispersion": constraints.real,
    }
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("log_mean", "log_inverse_dispersion")

    def __init__(self, log_mean: Array, log_inverse_dispersion: Array) -> None:
        self.log_mean = jnp.minimum(log_mean, LARGEST)
        self.log_inverse_dispersion = jnp.clip(
            log_inverse_dispersion, -LARGEST, LARGEST
        )
        super().__init__(batch_shape=jnp.shape(log_mean), validate_args=False)

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_mean)

    @property
    def variance(self) -> Array:
        return self.mean + jnp.square(self.mean) / jnp.exp(self.log_inverse_dispersion)

    def log_prob(self, value: Array) -> Array:
        """With n = x + theta, p = theta / (theta + mu): log(theta / n) + log of the
        binomial density of theta in n of probability p [Loader 2000], nats.
        """
        mean, theta = self.mean, jnp.exp(self.log_inverse_dispersion)
        some = value > 0
        x = jnp.where(some, value, 1.0)
        total, both = x + theta, mean + theta
        share = (x - mean) / both
        close = jnp.abs(share) < 0.5
        log_ratio = jnp.where(
            close,
            jnp.log1p(jnp.where(close, share, 0.0)),
            jnp.log(total) - jnp.log(both),
        )
        deviance = half_deviance(theta, log_ratio) + half_deviance(
            x, log_ratio + self.log_mean - jnp.log(x)
        )
        errors = stirling_error(total) - stirling_error(theta) - stirling_error(x)
        scale = 0.5 * (jnp.log(theta) - jnp.log(x) - jnp.log(total)) - HALF_LOG_TAU
        never = -theta * jnp.log1p(mean / theta)
        return jnp.where(some, scale + errors - deviance, never)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """A Poisson variable whose rate is Gamma distributed."""
        gamma_key, poisson_key = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        theta = jnp.broadcast_to(jnp.exp(self.log_inverse_dispersion), shape)
        rate = jax.random.gamma(gamma_key, theta) * self.mean / theta
        return jax.random.poisson(poisson_key, rate, shape)


def half_deviance(x: Array, log_ratio: Array) -> Array:
    """x log(x / m) + m - x >= 0, where log_ratio = log(m / x)."""
    return x * (jnp.expm1(log_ratio) - log_ratio)


def log_factorial(x: Array) -> Array:
    """log x! of 0 <= x < 10 (not only whole ones), by Stirling's series at x + 8."""
    x = jnp.clip(x, 0.0, DIRECT)
    product = (x + 1) * (x + 2) * (x + 3) * (x + 4) * (x + 5) * (x + 6) * (x + 7)
    w = x + 8
    return (w - 0.5) * jnp.log(w) - w + HALF_LOG_TAU + series(w) - jnp.log(product)


def stirling_error(x: Array) -> Array:
    """log x! - ((x + 1/2) log x - x + log(2 pi) / 2), x > 0."""
    small = x < DIRECT
    low, high = jnp.where(small, x, 1.0), jnp.where(small, DIRECT, x)
    near = log_factorial(low) - (low + 0.5) * jnp.log(low) + low - HALF_LOG_TAU
    return jnp.where(small, near, series(high))


def series(x: Array) -> Array:
    """The error of Stirling's formula, to float32's precision for x >= 8."""
    square = jnp.square(x)
    return (1 / 12 - (1 / 360 - 1 / (1260 * square)) / square) / x


class PoissonCounts(Likelihood):
    """Poisson(exp(out)), or with the mean that a library size gives."""

    fits = frozenset({"count"})
    discrete = True

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return Poisson(out)


class NegativeBinomialCounts(Likelihood):
    """Negative binomial of mean exp(out), an inverse dispersion learned per column."""

    fits = frozenset({"count"})
    discrete = True

    @nn.compact
    def __call__(self, out: Array, batch: Batch) -> Distribution:
        zeros = nn.initializers.zeros
        log_theta = self.param("log_inverse_dispersion", zeros, (out.shape[-1],))
        lead = (1,) * (out.ndim - 1)
        return NegativeBinomial(out, log_theta.reshape(*lead, -1))


class OfLibrary(Likelihood):
    """Counts whose means share a row's total: p(x | z, library).

    mu_j = l exp(out_j) / sum_k exp(out_k) [Lopez et al. 2018, scVI], l the sum of the
    row. With holes, l and the sum over k are of observed columns, so that the observed
    means sum to the observed total. A row without counts (where examples are generated,
    say) has the library size `typical`.
    """

    fits = frozenset({"count"})
    discrete = True
    typical: float
    counts: Likelihood

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        x = batch["x"]
        mask = batch.get("mask", jnp.ones_like(x))
        total = jnp.sum(jnp.where(mask == 1, x, 0), -1, keepdims=True)
        known = total > 0
        log_total = jnp.log(jnp.where(known, total, self.typical))
        counted = jnp.where(known, mask, 1.0)
        log_total, counted = (aligned(a, out) for a in (log_total, counted))
        log_sum = nn.logsumexp(out, -1, keepdims=True, b=counted)
        return self.counts(log_total + out - log_sum, batch)


def aligned(
    value: Float[Array, "batch D"], out: Float[Array, "... D2"]
) -> Float[Array, "... D"]:
    """A batch's array with axes of length 1 before it, as many as `out` has more."""
    return value.reshape((1,) * (out.ndim - value.ndim) + value.shape)
