"""Bits, and densities on [0, 1], by their logits."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import nn
from numpyro.distributions import constraints

from vaejax.types import Array, Key


def log_odds(logits: Array, value: Array) -> Array:
    """value log s(l) + (1 - value) log s(-l) with s the sigmoid, nats.

    Exact in both tails; NaN stays NaN.
    """
    # JAX gives abs the slope 1 at 0; at ties the maximum shares it, which is right.
    size = jnp.maximum(logits, -logits)
    return value * logits - jnp.maximum(logits, 0) - jnp.log1p(jnp.exp(-size))


class Bernoulli(dist.BernoulliLogits):
    """Bits by their logits, with a cross-entropy for grey values.

    numpyro's own log_prob gives 0 or minus infinity where the logits are NaN.
    """

    def __init__(self, logits: Array) -> None:
        super().__init__(logits, validate_args=False)

    def log_prob(self, value: Array) -> Array:
        return log_odds(jnp.asarray(self.logits), value)


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
