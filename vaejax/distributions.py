"""Densities that numpyro.distributions lacks, and the two rules for using its own.

Rule one: every distribution is made with `validate_args=False`. With validation,
numpyro wraps `log_prob` in `where(in support, ..., -inf)`, which turns grey pixels
into minus infinity and hides where a NaN came from.
Rule two: `log_prob` is elementwise, so that masks can select what is observed.
"""

from functools import partial, singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import nn
from jaxtyping import Float
from numpyro.distributions import constraints

from vaejax.types import Array, ArrayLike, Distribution, Key

Normal = partial(dist.Normal, validate_args=False)
Laplace = partial(dist.Laplace, validate_args=False)
Delta = partial(dist.Delta, validate_args=False)


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


class StudentT(dist.StudentT):
    """Student's t for any degrees of freedom, also where it is nearly a Gaussian.

    numpyro's own log_prob subtracts two log-gammas of `df`, which cancel in float32:
    it is off by .18 nats at a million degrees.
    """

    def __init__(
        self, df: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0
    ) -> None:
        super().__init__(df, loc, scale, validate_args=False)

    def log_prob(self, value: ArrayLike) -> Array:
        df, loc, scale = map(jnp.asarray, (self.df, self.loc, self.scale))
        size = jnp.abs((value - loc) / scale) / jnp.sqrt(df)
        far = size > 1e4  # here its square adds 1 in vain, and soon overflows
        near = jnp.log1p(jnp.square(jnp.where(far, 0.0, size)))
        log_tail = jnp.where(far, 2 * jnp.log(jnp.where(far, size, 1.0)), near)
        log_normalizer = log_gamma_ratio(df / 2) - 0.5 * jnp.log(2 * jnp.pi)
        return log_normalizer - jnp.log(scale) - (df + 1) / 2 * log_tail


def log_gamma_ratio(a: Array) -> Array:
    """log Gamma(a + 1/2) - log Gamma(a) - log(a) / 2 for a above 0.

    Stirling's series at a + 4, its first left-out term below 1e-8, and the recurrence
    Gamma(a + 1) = a Gamma(a) down from there [Abramowitz & Stegun 1964, 6.1.47].
    """
    shift = 4
    r = 1 / (a + shift)
    series = -r / 8 + r**3 / 192 - r**5 / 640
    steps = [jnp.log1p(-0.5 / (a + n + 0.5)) for n in range(shift)]
    return series + 0.5 * jnp.log1p(shift / a) + sum(steps)


def kl_divergence(
    q: Distribution, p: Distribution, z: Float[Array, "samples batch latents"]
) -> Float[Array, "samples batch latents"]:
    """KL(q || p) of each latent, nats: analytic where known, else Monte Carlo.

    The estimate log q(z) - log p(z) at each of the given draws of q is unbiased, but
    may be negative.
    """
    if isinstance(q, dist.Normal) and isinstance(p, dist.Normal):
        return jnp.broadcast_to(kl_of_gaussians(q, p), z.shape)
    try:
        analytic = dist.kl_divergence(q, p)
    except NotImplementedError:  # numpyro knows no closed form for this pair
        return jax.vmap(q.log_prob)(z) - jax.vmap(p.log_prob)(z)
    return jnp.broadcast_to(analytic, z.shape)


def kl_of_gaussians(q: dist.Normal, p: dist.Normal) -> Array:
    """KL(q || p) of each entry, nats: numpyro's log of a squared scale underflows."""
    scale, width = jnp.asarray(q.scale), jnp.asarray(p.scale)
    ratio = scale / width
    shift = (jnp.asarray(q.loc) - jnp.asarray(p.loc)) / width
    return 0.5 * (jnp.square(ratio) + jnp.square(shift) - 1) - jnp.log(ratio)


@singledispatch
def has_density(p: Any) -> bool:
    """Whether a distribution has a density or probabilities; a point mass has none."""
    return True


@has_density.register
def _(p: dist.Delta) -> bool:
    return False


@singledispatch
def scale_of(px: Distribution) -> Array | None:
    """The standard deviation (root mean square over all entries) of a Gaussian."""
    return None


@scale_of.register
def _(px: dist.Normal) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(jnp.asarray(px.scale))))


@singledispatch
def expectation(px: Distribution) -> Array:
    """What is averaged over z to impute x: E[x | z] where x is a number."""
    return px.mean


@singledispatch
def encoding(px: Distribution, x: Array) -> Array:
    """Values as `expectation` is of: the same where x is a number."""
    del px
    return x


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
        """Mixture of the components' means, up to what lies beyond the end bins."""
        means = self.locs
        for _ in range(1, self.event_shape[0]):  # a channel needs those before it
            before = jnp.einsum("...cdm,...dm->...cm", self.coefficients, means)
            means = self.locs + before
        weights = nn.softmax(self.logits)[..., None, :]
        return jnp.clip((weights * means).sum(-1) / 2 + 0.5, 0, 1)

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


def lower_triangular(rows: Any, channels: int) -> Array:
    """Strictly lower triangular `[..., channels, channels, mixtures]` from its entries.

    `rows` is `[..., channels * (channels - 1) / 2, mixtures]`, row by row.
    """
    row, column = jnp.tril_indices(channels, -1)
    full = jnp.zeros(rows.shape[:-2] + (channels, channels) + rows.shape[-1:])
    return full.at[..., row, column, :].set(rows)


class Known(dist.Distribution):
    """A distribution some entries of which are known: they are certain, and stay.

    Args:
      base: of all entries; batch shape `[samples, batch, ...]`.
      value: `[batch, ...]`, read where `known` is 1.
      known: `[batch, ...]`, 1 or 0.
    """

    arg_constraints = {}
    pytree_data_fields = ("base", "value", "known")

    def __init__(self, base: Any, value: Array, known: Array) -> None:
        self.base, self.value, self.known = base, value[None], known[None] == 1
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Array) -> Array:
        """log p of the unknown entries; 0 for those that are known."""
        joint = tuple(range(self.known.ndim - self.event_dim, self.known.ndim))
        certain = jnp.all(self.known, axis=joint)
        return jnp.where(certain, 0.0, self.base.log_prob(value))

    @property
    def mean(self) -> Array:
        return jnp.where(self.known, self.value, self.base.mean)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        drawn = self.base.sample(key, sample_shape)
        return jnp.where(self.known, self.value, drawn)


@has_density.register
def _(p: Known) -> bool:
    return has_density(p.base)
