"""Counts 0, 1, 2, ...: Poisson and negative binomial, by the logarithm of their mean.

Both are computed by deviances [Loader 2000, "Fast and accurate computation of binomial
probabilities"]: `x log(mu) - mu - log x!` subtracts numbers that are millions of times
its value where counts are large, which float32 does not survive.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from vaejax.types import Array, Key

LARGEST = 20.0
"""Largest logarithm of means and dispersions: 4.9e8, which draws as int32 can hold.

Beyond it densities are those of the bound, and so are their gradients where they point
back to it: else a unit that went too far would stay there for good.
"""
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
FRACTION = (1 / 30, 0.25487725, 0.79118351)
REST = 1.28612021
"""A continued fraction of log-factorials, as Stieltjes's, whose last numbers are fitted
to stand for the rest: its error is below 1e-8 from 1 on."""


class Poisson(dist.Distribution):
    """Poisson(mu), log mu = min(log_mean, LARGEST); `log_prob` elementwise, nats."""

    arg_constraints = {"log_mean": constraints.real}
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("log_mean",)

    def __init__(self, log_mean: Array) -> None:
        self.log_mean = log_mean
        super().__init__(batch_shape=jnp.shape(log_mean), validate_args=False)

    @property
    def mean(self) -> Array:
        return jnp.exp(jnp.minimum(self.log_mean, LARGEST))

    @property
    def variance(self) -> Array:
        return self.mean

    def log_prob(self, value: Array) -> Array:
        """x log mu - mu - log x!, nats."""
        return poisson_log_prob(value, self.log_mean)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape)
        return jax.random.poisson(key, self.mean, shape)


class NegativeBinomial(dist.Distribution):
    """Counts of mean mu and variance mu + mu^2 / theta; `log_prob` elementwise, nats.

    Gamma(x + theta) / (Gamma(theta) x!) (theta / (theta + mu))^theta
    (mu / (theta + mu))^x [Lopez et al. 2018, scVI], theta the inverse dispersion; as
    theta grows this is Poisson(mu).

    Args:
      log_mean: log mu `[..., D]`, at most `LARGEST`.
      log_inverse_dispersion: log theta, of the same number of axes, bounded likewise.
    """

    arg_constraints = {
        "log_mean": constraints.real,
        "log_inverse_dispersion": constraints.real,
    }
    support = constraints.nonnegative_integer  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("log_mean", "log_inverse_dispersion")

    def __init__(self, log_mean: Array, log_inverse_dispersion: Array) -> None:
        self.log_mean = log_mean
        self.log_inverse_dispersion = log_inverse_dispersion
        super().__init__(batch_shape=jnp.shape(log_mean), validate_args=False)

    @property
    def mean(self) -> Array:
        return jnp.exp(jnp.minimum(self.log_mean, LARGEST))

    @property
    def inverse_dispersion(self) -> Array:
        return jnp.exp(within(self.log_mean, self.log_inverse_dispersion)[1])

    @property
    def variance(self) -> Array:
        return self.mean + jnp.square(self.mean) / self.inverse_dispersion

    def log_prob(self, value: Array) -> Array:
        return negative_binomial_log_prob(
            value, self.log_mean, self.log_inverse_dispersion
        )

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """A Poisson variable whose rate is Gamma distributed."""
        gamma_key, poisson_key = jax.random.split(key)
        shape = (*sample_shape, *self.batch_shape)
        theta = jnp.broadcast_to(self.inverse_dispersion, shape)
        rate = jax.random.gamma(gamma_key, theta) * self.mean / theta
        return jax.random.poisson(poisson_key, rate, shape)


def inward(slope: Array, logarithm: Array, least: float = -math.inf) -> Array:
    """A slope at the bounded logarithm; beyond a bound only if it leads back."""
    slope = jnp.where(logarithm > LARGEST, jnp.minimum(slope, 0), slope)
    return jnp.where(logarithm < least, jnp.maximum(slope, 0), slope)


@jax.custom_jvp
def poisson_log_prob(value: Array, log_mean: Array) -> Array:
    """x log mu - mu - log x!, nats; counts themselves have no gradient."""
    some = value > 0
    x = jnp.where(some, value, 1.0)
    log_mean, log_x = jnp.minimum(log_mean, LARGEST), jnp.log(x)
    deviance = half_deviance(x, log_mean - log_x)
    found = -deviance - stirling_error(x) - HALF_LOG_TAU - 0.5 * log_x
    return jnp.where(some, found, -jnp.exp(log_mean))


@poisson_log_prob.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """x - mu, by log mu; derivatives of the deviance would cancel each other."""
    value, log_mean = primals
    slope = inward(value - jnp.exp(jnp.minimum(log_mean, LARGEST)), log_mean)
    return poisson_log_prob(value, log_mean), slope * tangents[1]


@jax.custom_jvp
def negative_binomial_log_prob(
    value: Array, log_mean: Array, log_inverse_dispersion: Array
) -> Array:
    """log(theta / n) + log of the binomial density of theta in n = x + theta, of
    probability theta / (theta + mu) [Loader 2000], nats.
    """
    log_mean, log_theta = within(log_mean, log_inverse_dispersion)
    x = jnp.where(value > 0, value, 1.0)
    theta, log_x = jnp.exp(log_theta), jnp.log(x)
    share, log_ratio = ratios(value, log_mean, log_theta)
    deviance = theta * (share - log_ratio)  # share is expm1(log_ratio)
    deviance += half_deviance(x, log_ratio + log_mean - log_x)
    errors = stirling_error(x + theta) - small_stirling_error(theta)
    scale = 0.5 * (log_theta - log_x - jnp.log(x + theta))
    found = scale - HALF_LOG_TAU + errors - stirling_error(x) - deviance
    return jnp.where(value > 0, found, theta * log_ratio)


@negative_binomial_log_prob.defjvp
def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """theta r by log mu, r = (x - mu) / (theta + mu); by log theta
    theta (log(1 + r) - r + d(x + theta) - d(theta)), d(y) = digamma(y) - log y.
    """
    value, *logarithms = primals
    log_mean, log_theta = within(*logarithms)
    theta = jnp.exp(log_theta)
    share, log_ratio = ratios(value, log_mean, log_theta)
    whole = jnp.where(value > 0, value, 1.0) + theta
    change = slope_of(stirling_error, whole) - 0.5 / whole
    change -= slope_of(small_stirling_error, theta) - 0.5 / theta
    by_theta = theta * (log_ratio - share + jnp.where(value > 0, change, 0.0))
    slope = inward(theta * share, logarithms[0]) * tangents[1]
    slope += inward(by_theta, logarithms[1], -LARGEST) * tangents[2]
    return negative_binomial_log_prob(*primals), slope


def within(log_mean: Array, log_inverse_dispersion: Array) -> tuple[Array, Array]:
    """Both logarithms within their bounds; means have none below."""
    log_theta = jnp.clip(log_inverse_dispersion, -LARGEST, LARGEST)
    return jnp.minimum(log_mean, LARGEST), log_theta


def ratios(
    value: Array, log_mean: Array, log_inverse_dispersion: Array
) -> tuple[Array, Array]:
    """r = (x - mu) / (theta + mu), and log(1 + r) = log((x + theta) / (theta + mu))."""
    mean, theta = jnp.exp(log_mean), jnp.exp(log_inverse_dispersion)
    share = (value - mean) / (mean + theta)
    close = jnp.abs(share) < 0.5
    far = jnp.log(jnp.where(close, 1.0, (value + theta) / (mean + theta)))
    return share, jnp.where(close, jnp.log1p(jnp.where(close, share, 0.0)), far)


def slope_of(function: Callable[[Array], Array], x: Array) -> Array:
    """The derivative of an elementwise function."""
    return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def half_deviance(x: Array, log_ratio: Array) -> Array:
    """x log(x / m) + m - x >= 0, where log_ratio = log(m / x)."""
    return x * (jnp.expm1(log_ratio) - log_ratio)


def stirling_error(x: Array) -> Array:
    """log x! - ((x + 1/2) log x - x + log(2 pi) / 2) of x >= 1."""
    rest = x + REST
    for term in reversed(FRACTION):
        rest = x + term / rest
    return (1 / 12) / rest


def small_stirling_error(x: Array) -> Array:
    """The same of x > 0, by that of x + 1."""
    small = x < 1
    low = jnp.where(small, x, 1.0)
    shifted = (low + 0.5) * jnp.log1p(1 / low) - 1 + stirling_error(low + 1)
    # Not maximum(x, 1), whose derivative at 1, where training starts, is a half.
    return jnp.where(small, shifted, stirling_error(jnp.where(small, 1.0, x)))
