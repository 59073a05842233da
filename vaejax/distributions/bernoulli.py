"""Bits, and densities on [0, 1], by their logits."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import nn
from numpyro.distributions import constraints

from vaejax.types import Array, ArrayLike, Key

# log(1 + e) / e by powers of e on [0, 1], the least first; interpolated at Chebyshev's
# points, so that the greatest relative error is 5e-9, and 1.5e-7 with that of float32.
SERIES = (
    1.0,
    -0.4999989264806038,
    0.33329710498860474,
    -0.24951616262368574,
    0.19663274254865892,
    -0.1526966706811639,
    0.10543623785499764,
    -0.056373612737602,
    0.01954252721422867,
    -0.003176057008524613,
)


def log_one_plus(e: Array) -> Array:
    """log(1 + e) for e in [0, 1], to the last digits of float32.

    XLA's own `log1p` is two functions and a choice, which its CPU backend does not put
    into vectors: five times as slow.
    """
    if e.dtype == jnp.float64:
        return jnp.log1p(e)
    series = jnp.zeros_like(e)
    for coefficient in reversed(SERIES):
        series = series * e + coefficient
    return series * e


def small_odds(logits: Array) -> Array:
    """Odds of the less likely bit, in [0, 1]."""
    return jnp.exp(-jnp.maximum(logits, -logits))


def log_odds(logits: ArrayLike, value: ArrayLike) -> Array:
    """value log s(l) + (1 - value) log s(-l) with s the sigmoid, nats.

    It and its derivative are exact in both tails; NaN stays NaN.
    """
    logits = 1.0 * jnp.asarray(logits)  # of whole numbers too
    return log_odds_of_arrays(logits, jnp.asarray(value, logits.dtype))


@jax.custom_jvp
def log_odds_of_arrays(logits: Array, value: Array) -> Array:
    """`log_odds`, of one dtype. Its derivative by the logits is written out: that of
    the formula keeps six arrays as large as the data for the way back.
    """
    return value * logits - jnp.maximum(logits, 0) - log_one_plus(small_odds(logits))


@log_odds_of_arrays.defjvp
def log_odds_slope(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The derivatives value - s(l) and l.

    Not by `small_odds`, which then would be kept for the way back: an array less to
    write and read is worth more than the exponentials.
    """
    (logits, value), (by_logits, by_value) = primals, tangents
    # No maximum: its own slope at 0, between two, would lose the curvature there. The
    # tail is used once: else XLA stores it.
    above = logits > 0
    tail = nn.sigmoid(jnp.where(above, -logits, logits))
    slope = (value - jnp.where(above, 1.0, 0.0)) + jnp.where(above, 1.0, -1.0) * tail
    found = log_odds_of_arrays(logits, value)
    return found, slope * by_logits + logits * by_value


class Bernoulli(dist.BernoulliLogits):
    """Bits by their logits, with a cross-entropy for grey values.

    numpyro's own log_prob gives 0 or minus infinity where the logits are NaN.
    """

    def __init__(self, logits: Array) -> None:
        super().__init__(logits, validate_args=False)

    def log_prob(self, value: Array) -> Array:
        return log_odds(self.logits, value)


class ContinuousBernoulli(dist.Distribution):
    """Density on [0, 1] proportional to lambda^x (1 - lambda)^(1 - x).

    [Loaiza-Ganem & Cunningham 2019, eq. 6]. With l = logit(lambda) the normalizing
    constant is C = l / tanh(l / 2), which is 2 at l = 0; small l use its series.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.unit_interval  # pyright: ignore[reportAssignmentType]
    small = 0.1  # below it the series are exact to rounding

    def __init__(self, logits: Array) -> None:
        self.logits = logits
        super().__init__(batch_shape=jnp.shape(logits), validate_args=False)

    def _is_small(self) -> tuple[Array, Array]:
        """Where the series hold, and logits that are safe to divide by elsewhere."""
        small = jnp.abs(self.logits) < self.small
        return small, jnp.where(small, 1.0, self.logits)

    def log_prob(self, value: Array) -> Array:
        small, safe = self._is_small()
        square = jnp.square(jnp.where(small, self.logits, 0.0))
        series = jnp.log(2.0) + jnp.log1p(square / 12 - jnp.square(square) / 720)
        closed = jnp.log(safe / jnp.tanh(safe / 2))
        log_normalizer = jnp.where(small, series, closed)
        return log_odds(self.logits, value) + log_normalizer

    @property
    def mean(self) -> Array:
        small, safe = self._is_small()
        closed = nn.sigmoid(safe) / jnp.tanh(safe / 2) - 1 / safe
        series = 0.5 + self.logits / 12 - self.logits**3 / 720
        return jnp.where(small, series, closed)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Inverse of the distribution function, by symmetry for negative logits."""
        u = jax.random.uniform(key, sample_shape + self.batch_shape)
        flat = self.logits == 0  # alone needs another form: the inverse does not cancel
        safe = jnp.where(flat, 1.0, self.logits)
        steep = -jnp.abs(safe)
        low = jnp.log1p(u * jnp.expm1(steep)) / steep
        return jnp.where(flat, u, jnp.where(safe > 0, 1.0 - low, low))
