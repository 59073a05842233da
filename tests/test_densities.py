"""Properties of densities and masks over the whole range of what networks give.

References are float64. Tolerances count roundings: EPS is that of one float32
operation, and stands beside the largest term of the sum that it rounds.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import digamma, expit, log_expit, log_softmax, logsumexp

from vaejax import distributions as d
from vaejax.data import masks
from vaejax.inference.terms import observed_log_prob

EPS = float(np.finfo(np.float32).eps)
N = 32  # entries of an example of hypothesis: each compiled call takes that many
# A failing example is reported as it is found: to shrink it takes minutes.
some = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)


def numbers(low: float, high: float, *special: float):
    """float32 `[N]` between two bounds, with special values among them."""
    least, most, *special = (float(np.float32(n)) for n in (low, high, *special))
    between = st.floats(least, most, width=32, allow_subnormal=False)
    each = st.one_of(between, st.sampled_from(special)) if special else between
    return arrays(np.float32, N, elements=each, fill=st.nothing())


def wide(x) -> np.ndarray:
    return np.asarray(x, np.float64)


@cache
def slopes(make):
    """log p(x) `[N]` and its slopes by x and by each parameter, compiled once."""

    def log_prob(arguments):
        x, *parameters = arguments
        value = make(*parameters).log_prob(x)
        return value.sum(), value

    graded = jax.jit(jax.grad(log_prob, has_aux=True))

    def found(*arguments):
        gradient, value = graded(tuple(map(jnp.asarray, arguments)))
        return wide(value), *map(wide, gradient)

    return found


def assert_within(got, want, tolerance) -> None:
    """Entry by entry; NaN is never within."""
    worst = np.abs(got - want) / tolerance
    assert np.all(worst <= 1), (got, want, worst.max())


logits = numbers(-1e4, 1e4, 0.0, -0.0, 1e-30, -1e-6, 88.0, -104.0, 1e30)
units = numbers(0, 1, 0.0, 0.5, 1.0)


@some
@given(logits, units)
def test_bernoulli(logit, x):
    got, by_value, slope = slopes(d.Bernoulli)(x, logit)
    logit, x = wide(logit), wide(x)
    np.testing.assert_array_equal(by_value, logit)
    bit = (x == 0) | (x == 1)
    want = np.where(x > 0, x * log_expit(logit), 0) + np.where(
        x < 1, (1 - x) * log_expit(-logit), 0
    )
    # bits cancel exactly; grey values round x * logit and its difference to logit
    grey = np.where(bit, 0, 2 * EPS * np.abs(logit))
    assert_within(got, want, 4 * EPS * np.abs(want) + grey + 1e-37)
    assert_within(slope, x - expit(logit), 4 * EPS)


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("make", [d.Bernoulli, d.ContinuousBernoulli])
def test_slope_at_a_logit_of_zero(make, x):
    """x - 1/2 of both: a continuous Bernoulli's normalizer is flat there."""
    slope = jax.grad(lambda logit: make(logit).log_prob(jnp.float32(x)))(0.0)
    assert float(slope) == pytest.approx(x - 0.5, abs=EPS)


@some
@given(numbers(-1e4, 1e4, 0.0, 0.1, -0.1, 1e-30, 88.0, -104.0), units)
def test_continuous_bernoulli(logit, x):
    got, by_value, slope = slopes(d.ContinuousBernoulli)(x, logit)
    logit, x = wide(logit), wide(x)
    np.testing.assert_array_equal(by_value, logit)
    small = np.abs(logit) < 1e-3  # where the next terms are below 1e-13
    safe = np.where(small, 1.0, logit)
    with np.errstate(over="ignore"):
        closed = np.log(safe / np.tanh(safe / 2))
        log_c = np.where(small, np.log(2) + logit**2 / 12, closed)
        log_c_slope = np.where(small, logit / 6, 1 / safe - 1 / np.sinh(safe))
    want = x * log_expit(logit) + (1 - x) * log_expit(-logit) + log_c
    assert_within(got, want, 4 * EPS * (1 + np.abs(logit) + np.abs(log_c)))
    # beside the series' end at .1 the slope is a difference of terms of size 10
    assert_within(slope, x - expit(logit) + log_c_slope, 4 * EPS * (1 + 10))


@some
@given(
    numbers(np.log(3), np.log(1e8), np.log(1e6)),
    numbers(-1e6, 1e6, 0.0, 1e20, -1e30),
    numbers(-1e3, 1e3, 0.0),
    numbers(1e-3, 1e3),
)
def test_student_t(log_freedom, x, loc, scale):
    freedom = np.exp(log_freedom)
    found = slopes(d.StudentT)(x, freedom, loc, scale)
    v, x, loc, scale = map(wide, (freedom, x, loc, scale))
    u = (x - loc) / scale
    share = u**2 / (v + u**2)  # of the tail in every slope
    tail = (v + 1) / 2 * np.log1p(u**2 / v)
    want = scipy.stats.t.logpdf(x, v, loc, scale)
    rounding = 1 + np.abs(np.log(scale)) + tail + (v + 1) * share
    by_freedom = 0.5 * (digamma((v + 1) / 2) - digamma(v / 2) - 1 / v)
    by_freedom += (v + 1) / (2 * v) * share - tail / (v + 1)
    by_loc = (v + 1) * u / (v + u**2) / scale
    expected = (
        (want, rounding),
        (-by_loc, np.abs(by_loc)),
        (by_freedom, 1 / v + share + tail / (v + 1)),
        (by_loc, np.abs(by_loc)),
        (((v + 1) * share - 1) / scale, ((v + 1) * share + 1) / scale),
    )
    for got, (value, size) in zip(found, expected, strict=True):
        # below 1e-30 a quotient of u is flushed to 0
        assert_within(got, value, 8 * EPS * size + 1e-30)


LOCATED = {
    # log p of u = (x - loc) / scale, and its slope by u, which is 0 at a peak
    "normal": (d.Normal, lambda u: -(u**2) / 2 - np.log(2 * np.pi) / 2, lambda u: -u),
    "laplace": (d.Laplace, lambda u: -np.abs(u) - np.log(2), lambda u: -np.sign(u)),
}


@pytest.mark.parametrize("name", LOCATED)
@some
@given(numbers(-1e6, 1e6, 0.0), numbers(-1e6, 1e6, 0.0), numbers(1e-3, 1e3))
def test_of_location_and_scale(name, x, loc, scale):
    make, standard, slope = LOCATED[name]
    x[0] = loc[0]
    got, *gradient = slopes(make)(x, loc, scale)
    x, loc, scale = map(wide, (x, loc, scale))
    away = np.where(np.abs(x - loc) < np.finfo(np.float32).tiny, 0, x - loc)  # flushed
    u = away / scale
    want = standard(u) - np.log(scale)
    assert_within(got, want, 8 * EPS * (np.abs(want) + 1 + np.abs(np.log(scale))))
    by_u = slope(u)
    by_scale = (-u * by_u - 1) / scale
    sizes = np.abs(by_u), np.abs(by_u), np.abs(u * by_u) + 1
    wanted = -by_u * [[-1], [1]] / scale
    for got, want, size in zip(gradient, (*wanted, by_scale), sizes, strict=True):
        assert_within(got, want, 8 * EPS * size / scale + 1e-30)  # small u^2 is flushed


@cache
def mixture_slopes():
    """log p of one-channel pixels `[N]` and its slopes, compiled once."""

    def log_prob(parameters, x):
        weights, locs, log_scales = parameters
        none = jnp.zeros((N, 1, 1, 2))
        px = d.LogisticMixture(weights, locs[:, None], log_scales[:, None], none)
        value = px.log_prob(x[:, None])
        return value.sum(), value

    return jax.jit(jax.grad(log_prob, has_aux=True))


def mixture_reference(x, weights, locs, log_scales):
    """Salimans et al. 2017, eq. 2, in float64 by the identity of the class."""
    centred = 2 * x[:, None] - 1 - locs
    upper = (centred + 1 / 255) * np.exp(-log_scales)
    lower = (centred - 1 / 255) * np.exp(-log_scales)
    with np.errstate(divide="ignore"):
        exact = np.log(-np.expm1(lower - upper))
    flat = np.log(2 / 255) - log_scales  # exact where a bin is below 1e-9 wide
    inside = np.where(log_scales > 15, flat, exact)
    log_mass = log_expit(upper) + log_expit(-lower) + inside
    log_mass = np.where(x[:, None] == 0, log_expit(upper), log_mass)
    log_mass = np.where(x[:, None] == 1, log_expit(-lower), log_mass)
    return logsumexp(log_mass + log_softmax(weights, axis=-1), axis=-1)


def pairs(low: float, high: float, *special: float):
    """float32 `[N, 2]`: of two components."""
    both = st.tuples(numbers(low, high, *special), numbers(low, high, *special))
    return both.map(lambda two: np.stack(two, -1))


@some
@given(
    arrays(np.int64, N, elements=st.integers(0, 255), fill=st.nothing()),
    pairs(-100, 100),
    pairs(-10, 10, 0.0),
    pairs(-7, 200, -7.0, 0.0, 1.0, 2.0, 87.0, 89.0, 1e4),
)
def test_logistic_mixture(level, weights, locs, log_scales):
    x = np.float32(level / 255)
    slopes, got = mixture_slopes()((weights, locs, log_scales), x)
    assert all(np.isfinite(slope).all() for slope in slopes)
    w, m, s = map(wide, (weights, locs, log_scales))
    exact = level / 255
    want = mixture_reference(exact, w, m, s)
    # what rounds: x and locations, over the scale; the terms of the sum
    rounded = 4 * EPS * ((1 + np.abs(m)) * np.exp(-s)).max(-1)
    terms = np.abs(want) + np.abs(w).max(-1) + np.abs(s).max(-1) + 10
    assert_within(wide(got), want, rounded + 4 * EPS * terms)
    h = 1e-4
    for place in range(2):
        step = h * np.eye(2)[place]
        difference = mixture_reference(exact, w, m, s + step) - mixture_reference(
            exact, w, m, s - step
        )
        # a scale above 1 keeps what is differentiated, and its rounding, small; the
        # difference is off by its second order and by the roundings of two values
        smooth = (s >= 0).all(-1)
        off = wide(slopes[2])[:, place] - difference / (2 * h)
        assert np.all(np.abs(off[smooth]) < 1e-3)


# Shapes and bounds of a pixel's parameters; coefficients of red in green, red in blue,
# green in blue.
COLOURS = {
    "weights": ((2,), -4, 4),
    "locs": ((3, 2), -1.5, 1.5),
    "log_scales": ((3, 2), -3, 3),
    "coefficients": ((3, 2), -1, 1),
}


def colour_reference(x, weights, locs, log_scales, coefficients):
    """The mixture of colours `[N, 3]` on [-1, 1], in float64 by masses of bins."""
    red, green = x[:, :1], x[:, 1:2]
    in_green, red_in_blue, green_in_blue = np.moveaxis(coefficients, 1, 0)
    in_blue = red_in_blue * red + green_in_blue * green
    before = np.stack([np.zeros_like(in_blue), in_green * red, in_blue], 1)
    centred = x[..., None] - locs - before
    upper = (centred + 1 / 255) * np.exp(-log_scales)
    lower = (centred - 1 / 255) * np.exp(-log_scales)
    inside = log_expit(upper) + log_expit(-lower) + np.log(-np.expm1(lower - upper))
    log_mass = np.where(x[..., None] == -1, log_expit(upper), inside)
    log_mass = np.where(x[..., None] == 1, log_expit(-lower), log_mass)
    return logsumexp(log_mass.sum(1) + log_softmax(weights, axis=-1), axis=-1)


def central(function, arguments, place, h):
    """The slopes of `function` `[N]` by the argument in a place, by differences."""
    found = np.zeros_like(arguments[place])
    for entry in np.ndindex(found.shape[1:]):
        sides = []
        for step in (h, -h):
            moved = [a.copy() for a in arguments]
            moved[place][(slice(None), *entry)] += step
            sides.append(function(*moved))
        found[(slice(None), *entry)] = (sides[0] - sides[1]) / (2 * h)
    return found


def test_slopes_of_a_mixture_of_colours():
    """By weights, locations, scales and what a colour takes from those before it."""

    def log_prob(parameters, x):
        weights, locs, log_scales, rows = parameters
        full = d.lower_triangular(rows, 3)
        value = d.LogisticMixture(weights, locs, log_scales, full).log_prob(x)
        return value.sum(), value

    rng, count = np.random.default_rng(0), 200
    level = rng.choice([0, 255, *range(256)], (count, 3))
    parameters = [
        rng.uniform(low, high, (count, *shape)).astype(np.float32)
        for shape, low, high in COLOURS.values()
    ]
    graded = jax.jit(jax.grad(log_prob, has_aux=True))
    gradient, got = graded(tuple(parameters), np.float32(level / 255))
    exact = [2 * level / 255 - 1, *map(wide, parameters)]
    want = colour_reference(*exact)
    steep = np.exp(-exact[3].min((1, 2)))  # the largest slope of a term
    # |u| <= (1 + 1.5 + 2 + .1) steep bounds an argument, and it and 10 each of the
    # logarithms of three masses and a weight
    rounded = 8 * EPS * (4 * 10 + 3 * 4.6 * steep)
    assert_within(wide(got), want, rounded)
    for place, (name, (shape, *_)) in enumerate(COLOURS.items()):
        h = 1e-5
        difference = central(colour_reference, exact, place + 1, h)
        # a slope times what rounding does to arguments and shares of components
        size = {"weights": 1, "log_scales": 4.6 * steep}.get(name, steep)
        # the difference: its third order, and roundings of two values
        own = h**2 * steep**3 + 4 * np.finfo(float).eps * (40 + 14 * steep) / h
        slack = (rounded * size + own).reshape(-1, *(1,) * len(shape))
        assert_within(wide(gradient[place]), difference, slack)


@some
@given(arrays(np.float32, (N, 5), elements=st.floats(-1e4, 1e4, width=32)))
def test_levels(logits):
    level = np.arange(N) % 5
    got, _, slope = slopes(d.Levels)(np.float32(level / 4), logits)
    each = log_softmax(wide(logits), axis=-1)
    want = each[np.arange(N), level]
    assert_within(got, want, 4 * EPS * (1 + np.abs(want)))
    # a rounded logarithm l moves exp(l) by EPS |l| exp(l), which is below EPS
    assert_within(slope, np.eye(5)[level] - np.exp(each), 4 * EPS)


@cache
def kl_slopes():
    """KL `[N]` to a standard normal prior and its slopes, compiled once."""
    one = d.Normal(jnp.zeros(N), jnp.ones(N))

    def kl(mean, log_scale):
        q = d.Normal(mean, jnp.exp(log_scale))
        value = d.kl_divergence(q, one)
        return value.sum(), value

    return jax.jit(jax.grad(kl, (0, 1), has_aux=True))


@some
@given(numbers(-1e6, 1e6, 0.0), numbers(-80, 40, 0.0, -44.0))
def test_kl_of_gaussians(mean, log_scale):
    (by_mean, by_scale), got = kl_slopes()(mean, log_scale)
    m, s = wide(mean), wide(log_scale)
    square = np.exp(2 * s)
    # exp rounds its argument's size, twice where squared
    rounding = 4 * EPS * (1 + np.abs(s)) * (1 + square)
    assert_within(wide(got), 0.5 * (square + m**2 - 1) - s, rounding + 4 * EPS * m**2)
    assert_within(wide(by_mean), m, 4 * EPS * np.abs(m) + 1e-37)
    assert_within(wide(by_scale), square - 1, rounding)


# --- masks ---------------------------------------------------------------------------

SHAPE = (2, 6)
DENSITIES = {
    "bernoulli": lambda out: d.Bernoulli(out),
    "continuous_bernoulli": lambda out: d.ContinuousBernoulli(out),
    "normal": lambda out: d.Normal(out, 0.5),
    "laplace": lambda out: d.Laplace(out, 0.5),
    "student_t": lambda out: d.StudentT(3 + jnp.exp(out), out, 0.5),
    "levels": lambda out: d.Levels(jnp.stack([out, -out, 2 * out], -1)),
}


@cache
def observed_slope(name):
    """log p(observed) `[1, batch]` and its slopes by the parameters, compiled once."""

    def total(out, x, mask):
        value = observed_log_prob(DENSITIES[name](out), x, mask)
        return value.sum(), value

    return jax.jit(jax.grad(total, has_aux=True))


@pytest.mark.parametrize("name", DENSITIES)
@settings(some, max_examples=25)
@given(
    arrays(bool, SHAPE),
    arrays(np.float32, SHAPE, elements=st.floats(-5, 5, width=32)),
    st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -1.0, 0.5]),
)
def test_the_value_at_a_hole_never_matters(name, mask, out, garbage):
    x = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.float32) / 2
    seen = mask[None].astype(np.float32)
    graded = observed_slope(name)
    slope, value = graded(out[None], np.where(mask, x, garbage)[None], seen)
    clean_slope, clean = graded(out[None], x[None], seen)
    np.testing.assert_array_equal(value, clean)
    np.testing.assert_array_equal(slope, clean_slope)
    assert np.all(np.asarray(slope)[0][~mask] == 0)
    each = wide(DENSITIES[name](jnp.asarray(out)).log_prob(jnp.asarray(x)))
    want = np.where(mask, each, 0).sum(-1)
    assert_within(wide(value)[0], want, 8 * EPS * (1 + np.abs(each).sum(-1)))


@some
@given(
    st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 40), st.integers(2, 6),
    st.floats(0.02, 0.98),
)  # fmt: skip
def test_masks(seed, count, more, width, rate):
    u = masks.uniforms(seed, 1, count, width)
    longer = masks.uniforms(seed, 1, count + more, width)
    np.testing.assert_array_equal(longer[:count], u)  # an example keeps its numbers
    assert np.all((u >= 0) & (u < 1))
    np.testing.assert_array_equal(masks.mcar(longer, rate)[:count], masks.mcar(u, rate))
    hidden = ~masks.exact(u, rate)
    assert hidden.shape == u.shape and hidden.sum() == int(u.size * rate)
    x = np.random.default_rng(seed).normal(size=(count, width))
    assert masks.mar(u, x, rate, 1)[:, :1].all()
    assert masks.mnar(u, x, rate, 1)[:, 1:].all()
    assert masks.logistic(x[:, 0], rate).mean() == pytest.approx(rate, abs=1e-9)


@some
@given(st.integers(0, 2**32), st.integers(4, 30), st.integers(4, 30))
def test_masks_of_images(seed, height, width):
    u = masks.uniforms(seed, 0, 8, 4)
    hidden = ~masks.rectangle(u, height, width).reshape(8, height, width)
    for one in hidden:
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, np.outer(rows, columns))  # no other shape
        for side, length in ((rows, height), (columns, width)):
            assert length // 4 <= side.sum() <= 3 * length // 4
            assert np.diff(np.flatnonzero(side)).max(initial=1) == 1  # in one piece
    halves = ~masks.half(u[:, :1], height, width)
    quarters = ~masks.quadrant(u[:, :1], height, width)
    assert np.all(halves.sum(1) >= height * width // 2 - max(height, width))
    assert np.all(quarters.sum(1) <= -(-height // 2) * -(-width // 2))
