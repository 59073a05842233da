"""Grey levels of pixels: categorical, and mixtures of discretized logistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import nn
from jaxtyping import Float
from numpyro.distributions import constraints

from vaejax.types import Array, Key


class Levels(dist.Distribution):
    """Categorical over `levels` equally spaced grey levels 0, 1/(levels-1), ..., 1."""

    arg_constraints = {"logits": constraints.real_vector}
    support = constraints.unit_interval  # pyright: ignore[reportAssignmentType]

    def __init__(self, logits: Float[Array, "... levels"]) -> None:
        self.logits = logits
        super().__init__(batch_shape=jnp.shape(logits)[:-1], validate_args=False)

    @property
    def _top(self) -> int:
        return self.logits.shape[-1] - 1

    def log_prob(self, value: Array) -> Array:
        level = jnp.round(value * self._top).astype(jnp.int32)
        level = jnp.broadcast_to(level, self.logits.shape[:-1])[..., None]
        log_probs = nn.log_softmax(self.logits)
        there = jnp.take_along_axis(log_probs, level, axis=-1)[..., 0]
        return jnp.where(jnp.isnan(value), jnp.nan, there)

    @property
    def mean(self) -> Array:
        return nn.softmax(self.logits) @ (jnp.arange(self._top + 1) / self._top)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = sample_shape + self.batch_shape
        return jax.random.categorical(key, self.logits, shape=shape) / self._top


class LogisticMixture(dist.Distribution):
    """Mixture of discretized logistics, 8-bit pixels [Salimans et al. 2017, eq. 2-3].

    One mixture indicator for a whole pixel; the mean of a channel is linear in the
    channels before it. Values are grey levels k / 255; the probability of a level is
    the logistic mass of its bin, the end bins reaching to infinity. The difference of
    two sigmoids is taken as s(a) s(-b) (1 - exp(b - a)): exact, with no special case
    for small bins.

    Args:
      logits: `[..., mixtures]`, weights of the components.
      locs: `[..., channels, mixtures]`, means on the scale [-1, 1].
      log_scales: `[..., channels, mixtures]`.
      coefficients: `[..., channels, channels, mixtures]`, strictly lower triangular.
    """

    arg_constraints = {"logits": constraints.real_vector}
    support = constraints.independent(  # pyright: ignore[reportAssignmentType]
        constraints.unit_interval, 1
    )
    pytree_data_fields = ("logits", "locs", "log_scales", "coefficients")
    half_bin = 1 / 255

    def __init__(
        self, logits: Array, locs: Array, log_scales: Array, coefficients: Array
    ) -> None:
        self.logits, self.locs = logits, locs
        self.log_scales, self.coefficients = log_scales, coefficients
        super().__init__(
            batch_shape=jnp.shape(logits)[:-1],
            event_shape=jnp.shape(locs)[-2:-1],
            validate_args=False,
        )

    def _means(self, x: Array) -> Array:
        """Component means `[..., channels, mixtures]` given all channels of x."""
        return self.locs + jnp.einsum("...cdm,...d->...cm", self.coefficients, x)

    def log_prob(self, value: Array) -> Array:
        x = jnp.broadcast_to(2 * value - 1, self.locs.shape[:-1])
        centred = x[..., None] - self._means(x)
        inverse_scale = jnp.exp(-self.log_scales)
        upper = inverse_scale * (centred + self.half_bin)
        lower = inverse_scale * (centred - self.half_bin)
        width = 2 * self.half_bin * inverse_scale
        # -expm1(-w) is w (1 - w / 2): its log needs no w, which underflows.
        narrow = width < 1e-3
        log_width = jnp.log(2 * self.half_bin) - self.log_scales - width / 2
        wide = jnp.log(-jnp.expm1(-jnp.where(narrow, 1.0, width)))
        inside = jnp.where(narrow, log_width, wide)
        first, last = (
            (x < -1 + self.half_bin)[..., None],
            (x > 1 - self.half_bin)[..., None],
        )
        log_mass = (
            jnp.where(last, 0.0, nn.log_sigmoid(upper))
            + jnp.where(first, 0.0, nn.log_sigmoid(-lower))
            + jnp.where(first | last, 0.0, inside)
        )
        return nn.logsumexp(log_mass.sum(-2) + nn.log_softmax(self.logits), axis=-1)

    @property
    def mean(self) -> Array:
        """The mixture of the components' means, of levels taken as continuous.

        A component's mean is that of a logistic which is clipped to [-1, 1], as draws
        are: where all is white its location runs off to infinity. That of a channel is
        taken at the means of those before it.
        """
        scales, means = jnp.exp(self.log_scales), jnp.zeros_like(self.locs)
        for channel in range(self.event_shape[0]):
            follows = self.coefficients[..., channel, :, :]
            before = jnp.einsum("...dm,...dm->...m", follows, means)
            mean = clipped_mean(
                self.locs[..., channel, :] + before, scales[..., channel, :]
            )
            means = means.at[..., channel, :].set(mean)
        weights = nn.softmax(self.logits)[..., None, :]
        return (weights * means).sum(-1) / 2 + 0.5

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        which_key, noise_key = jax.random.split(key)
        shape = sample_shape + self.batch_shape
        which = jax.random.categorical(which_key, self.logits, shape=shape)
        chosen = nn.one_hot(which, self.logits.shape[-1])[..., None, :]
        noise = jax.random.logistic(noise_key, shape + self.event_shape)
        spread = noise * (chosen * jnp.exp(self.log_scales)).sum(-1)
        x = jnp.zeros(shape + self.event_shape)
        for channel in range(self.event_shape[0]):
            drawn = (chosen * self._means(x)).sum(-1) + spread
            x = x.at[..., channel].set(jnp.clip(drawn, -1, 1)[..., channel])
        return jnp.round((x + 1) / 2 * 255) / 255


def clipped_mean(loc: Array, scale: Array) -> Array:
    """E[clip(x, -1, 1)] of a logistic x: -1 + the integral of P(x > t) over [-1, 1]."""
    below, above = nn.softplus((loc + 1) / scale), nn.softplus((loc - 1) / scale)
    return scale * (below - above) - 1


def lower_triangular(rows: Any, channels: int) -> Array:
    """Strictly lower triangular `[..., channels, channels, mixtures]` from its entries.

    `rows` is `[..., channels * (channels - 1) / 2, mixtures]`, row by row.
    """
    row, column = jnp.tril_indices(channels, -1)
    full = jnp.zeros(rows.shape[:-2] + (channels, channels) + rows.shape[-1:])
    return full.at[..., row, column, :].set(rows)
