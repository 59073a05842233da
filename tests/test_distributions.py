"""Densities against scipy, numerical integration and float64 references.

Sampling tests allow 5 standard errors, which a right sampler exceeds with probability
6e-7; keys are fixed. EPS is the rounding of one float32 operation.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from scipy.integrate import quad
from scipy.special import expit, logsumexp

from vaejax import distributions as d
from vaejax.inference.latents import latent_term, log_density

EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.key(0)
GREY = np.arange(256) / 255
LOGITS = (-30.0, -3.0, -0.11, -0.09, -1e-4, 0.0, 1e-4, 0.09, 0.11, 3.0, 30.0)


def float32(x) -> np.ndarray:
    return np.asarray(x, np.float32)


@jax.jit
def log_prob(p, x):
    return p.log_prob(x)


@partial(jax.jit, static_argnums=1)
def draw(p, count: int):
    """`count` draws, as the library draws: one key for each."""
    return jax.vmap(p.sample)(jax.random.split(KEY, count))


def on_grid(samples) -> bool:
    """Whether all are k / 255, which float32 rounds in one of two ways."""
    return np.abs(np.round(samples * 255) / 255 - samples).max() <= EPS


def assert_mean(samples, mean) -> None:
    samples = np.asarray(samples, np.float64)
    error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(samples.mean(0) - mean), 5 * error + EPS)


class TestTheMenuOfNumpyro:
    """log_prob is scipy's, up to rounding: some ten operations on terms below 40."""

    x = float32(np.linspace(-4, 4, 17))
    loc, scale = float32(0.3), float32(0.7)

    def test_normal(self):
        got = d.Normal(self.loc, self.scale).log_prob(self.x)
        want = scipy.stats.norm(self.loc, self.scale).logpdf(self.x)
        np.testing.assert_allclose(got, want, rtol=10 * EPS, atol=10 * EPS)

    def test_laplace(self):
        got = d.Laplace(self.loc, self.scale).log_prob(self.x)
        want = scipy.stats.laplace(self.loc, self.scale).logpdf(self.x)
        np.testing.assert_allclose(got, want, rtol=10 * EPS, atol=10 * EPS)

    @pytest.mark.parametrize("freedom", [3.0, 5.5, 40.0])
    def test_student_t(self, freedom):
        got = d.StudentT(freedom, self.loc, self.scale).log_prob(self.x)
        want = scipy.stats.t(freedom, self.loc, self.scale).logpdf(self.x)
        # lgamma(20) is about 40, and a difference of two of them enters
        np.testing.assert_allclose(got, want, rtol=10 * EPS, atol=200 * EPS)

    def test_bernoulli(self):
        x, logits = float32([0, 1] * 3), float32([-9, -9, 0, 0, 2, 2])
        got = log_prob(d.Bernoulli(jnp.asarray(logits)), x)
        want = scipy.stats.bernoulli(expit(logits.astype(float))).logpmf(x)
        np.testing.assert_allclose(got, want, rtol=10 * EPS)


def test_bernoulli_of_a_grey_target_is_the_cross_entropy():
    """x log p + (1 - x) log(1 - p), not the -inf of a validated density."""
    x, p = float32([0.0, 0.25, 0.5, 0.9]), np.array([0.2, 0.5, 0.7, 0.99])
    logits = float32(np.log(p / (1 - p)))
    want = x * np.log(p) + (1 - x) * np.log1p(-p)
    # the logit is at most 4.6, so its rounding moves the result by less than 10 EPS
    got = log_prob(d.Bernoulli(jnp.asarray(logits)), x)
    np.testing.assert_allclose(got, want, atol=10 * EPS)


NAN = jnp.float32(jnp.nan)


@pytest.mark.parametrize(
    "p",
    [
        d.Bernoulli(jnp.float32(0.5)),
        d.ContinuousBernoulli(jnp.float32(0.5)),
        d.Normal(0.0, 1.0),
        d.Laplace(0.0, 1.0),
        d.StudentT(3.0, 0.0, 1.0),
    ],
)
def test_density_of_nan_is_nan(p):
    """With numpyro's validation it would be -inf, which hides where it came from."""
    assert np.isnan(p.log_prob(NAN))


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("make", [d.Bernoulli, d.ContinuousBernoulli])
def test_density_of_a_network_that_gave_nan_is_nan(make, x):
    """numpyro's BernoulliLogits would give 0 at x = 0: a perfect fit."""
    assert np.isnan(make(NAN).log_prob(jnp.float32(x)))


def continuous_bernoulli(x, logit):
    """log density in float64: the exponential family with parameter `logit` on [0, 1].

    Its normalizer is (e^l - 1) / l, whatever form the library gives it.
    """
    if logit == 0:
        return np.zeros_like(x)
    log_normalizer = np.log(np.expm1(logit) / logit)
    return x * logit - log_normalizer


@jax.jit
@jax.vmap
@jax.grad
def gradient(logit, x):
    return d.ContinuousBernoulli(logit).log_prob(x)


class TestContinuousBernoulli:
    def test_integrates_to_one(self):
        x, weight = np.polynomial.legendre.leggauss(200)  # exact to 1e-15 here
        x = float32((x + 1) / 2)
        for logit in LOGITS:
            p = d.ContinuousBernoulli(jnp.float32(logit))
            density = np.exp(np.asarray(log_prob(p, x), float))
            # log_prob adds terms of size |logit|; x itself is rounded to EPS / 2
            tolerance = (10 + 4 * abs(logit)) * EPS
            assert np.sum(weight / 2 * density) == pytest.approx(1, abs=tolerance)

    @pytest.mark.parametrize("logit", LOGITS)
    def test_log_prob_is_that_of_the_exponential_family(self, logit):
        x = float32(np.linspace(0, 1, 11))
        got = log_prob(d.ContinuousBernoulli(jnp.float32(logit)), x)
        want = continuous_bernoulli(x.astype(float), float(np.float32(logit)))
        np.testing.assert_allclose(got, want, atol=(10 + 4 * abs(logit)) * EPS)

    @pytest.mark.parametrize("logit", LOGITS)
    def test_reference_integrates_to_one_by_quadrature(self, logit):
        area, error = quad(lambda x: np.exp(continuous_bernoulli(x, logit)), 0, 1)
        assert area == pytest.approx(1, abs=max(error, 1e-12))

    def test_no_jump_where_the_series_begins(self):
        edge = d.ContinuousBernoulli.small
        inside, outside = np.nextafter(np.float32(edge), np.float32([0, 1]))
        x = float32([0.0, 0.4, 1.0])
        for sign in (-1, 1):
            a = log_prob(d.ContinuousBernoulli(jnp.float32(sign * inside)), x)
            b = log_prob(d.ContinuousBernoulli(jnp.float32(sign * outside)), x)
            np.testing.assert_allclose(a, b, atol=10 * EPS)

    @pytest.mark.parametrize("logit", LOGITS)
    def test_gradient_is_that_of_the_reference(self, logit):
        """d log p / d logit = x - E[x], by central differences in float64."""
        x, l, step = np.array([0.0, 0.3, 1.0]), float(np.float32(logit)), 1e-5
        got = gradient(jnp.full(3, l), float32(x))
        # of which step^2 is the error, and 30 * 1e-16 / step what rounding adds
        want = (
            continuous_bernoulli(x, l + step) - continuous_bernoulli(x, l - step)
        ) / (2 * step)
        mean = quad(lambda x: x * np.exp(continuous_bernoulli(x, l)), 0, 1)[0]
        # 1/l - 1/sinh(l) is a difference of two numbers of size 1/|l|
        cancels = 4 * EPS / max(abs(l), d.ContinuousBernoulli.small)
        np.testing.assert_allclose(got, x - mean, atol=10 * EPS + cancels)
        np.testing.assert_allclose(got, want, atol=10 * EPS + cancels)

    @pytest.mark.parametrize("logit", LOGITS)
    def test_mean_is_the_integral_of_x(self, logit):
        want = quad(lambda x: x * np.exp(continuous_bernoulli(x, logit)), 0, 1)[0]
        got = d.ContinuousBernoulli(jnp.float32(logit)).mean
        # the series leaves out l^3 / 720 = 1.4e-6 at its edge, the closed form
        # cancels two numbers of size 1/|l|
        tolerance = 10 * EPS + 4 * EPS / max(abs(logit), 0.1) + 0.1**3 / 720
        assert float(got) == pytest.approx(want, abs=tolerance)

    def test_draws_lie_in_the_unit_interval_with_the_right_moments(self):
        p = d.ContinuousBernoulli(jnp.array(LOGITS))
        samples = draw(p, 100_000)
        assert samples.min() >= 0 and samples.max() <= 1
        for power in (1, 2):

            def moment(l, power=power):
                return quad(
                    lambda x: x**power * np.exp(continuous_bernoulli(x, l)), 0, 1
                )[0]

            assert_mean(samples**power, [moment(l) for l in LOGITS])


class TestLevels:
    logits = float32(np.random.default_rng(0).normal(0, 3, (2, 256)))

    def test_probabilities_of_all_levels_sum_to_one(self):
        p = d.Levels(jnp.tile(self.logits, (256, 1, 1)))
        log_p = np.asarray(log_prob(p, float32(GREY)[:, None]), float)
        # 256 numbers, each wrong by the rounding of logits below 12 in size
        np.testing.assert_allclose(np.exp(log_p).sum(0), 1, atol=32 * EPS)

    def test_log_prob_is_the_logit_of_the_level(self):
        """Every k / 255 finds level k, though float32 rounds it up or down."""
        p = d.Levels(jnp.tile(self.logits[0], (256, 1)))
        exact = self.logits[0].astype(float)
        want = exact - logsumexp(exact)
        for side in (0, 1, 2):
            x = np.nextafter(float32(GREY), np.float32(side))
            np.testing.assert_allclose(log_prob(p, x), want, atol=32 * EPS)

    def test_draws_lie_on_the_grid_with_the_right_mean(self):
        p = d.Levels(jnp.asarray(self.logits))
        samples = draw(p, 4_000)
        assert on_grid(samples)
        exact = np.exp(self.logits.astype(float))
        mean = exact @ GREY / exact.sum(-1)
        np.testing.assert_allclose(p.mean, mean, atol=32 * EPS)
        assert_mean(samples, mean)


def mixture_reference(x, logits, locs, log_scales, coefficients):
    """Probabilities in float64 as the paper writes them, for one pixel of grey `x`.

    sum_m pi_m prod_c [s((x_c + 1/255 - mu_c) / s_c) - s((x_c - 1/255 - mu_c) / s_c)]
    [Salimans et al. 2017, eq. 2-3], on the scale [-1, 1], the end bins open.
    """
    y, total = 2 * np.asarray(x, float) - 1, 0.0
    weights = np.exp(logits - logsumexp(logits))
    for m, weight in enumerate(weights):
        mass = weight
        for c in range(len(y)):
            mean = locs[c, m] + sum(coefficients[c, e, m] * y[e] for e in range(c))
            scale = np.exp(log_scales[c, m])
            level = round(x[c] * 255)
            above = 1.0 if level == 255 else expit((y[c] + 1 / 255 - mean) / scale)
            below = 0.0 if level == 0 else expit((y[c] - 1 / 255 - mean) / scale)
            mass *= above - below
        total += mass
    return total


def mixture_parameters(channels, mixtures=3, *, log_scale=-2.5, seed=0):
    rng = np.random.default_rng(seed)
    lower = np.tril(np.ones((channels, channels)), -1)[..., None]
    log_scales = log_scale + rng.uniform(-0.5, 0.5, (channels, mixtures))
    coefficients = lower * rng.uniform(-0.5, 0.5, (channels, channels, mixtures))
    return {
        "logits": float32(rng.normal(size=mixtures)),
        "locs": float32(rng.uniform(-0.8, 0.8, (channels, mixtures))),
        "log_scales": float32(log_scales),
        "coefficients": float32(coefficients),
    }


def mixture(parameters, shape=(), channels=None):
    """One distribution for all of `shape`, or the marginal of its first channels."""
    c = channels or len(parameters["locs"])
    cut = {
        "logits": parameters["logits"],
        "locs": parameters["locs"][:c],
        "log_scales": parameters["log_scales"][:c],
        "coefficients": parameters["coefficients"][:c, :c],
    }
    return d.LogisticMixture(
        **{n: jnp.broadcast_to(a, (*shape, *a.shape)) for n, a in cut.items()}
    )


def boundary_error(log_scale: float) -> float:
    """Sum over levels of what rounding may move across the edges of bins.

    The argument of a sigmoid is (x - mean) / scale with x and mean rounded to EPS, so
    an edge moves by 2 EPS / scale, times the slope s' <= 1/4 of the sigmoid there; the
    slopes at all edges sum to at most 1 + (255/2) scale. The logs and their sum add a
    few EPS.
    """
    scale = np.exp(log_scale)
    return 2 * EPS / scale * (1 + 127.5 * scale) + 20 * EPS


class TestLogisticMixture:
    @pytest.mark.parametrize("log_scale", [-7.0, -5.0, -2.5, 0.0, 7.0])
    def test_probabilities_of_all_grey_levels_sum_to_one(self, log_scale):
        """From a hundredth of a bin to a thousand times the whole range."""
        p = mixture(mixture_parameters(1, log_scale=log_scale), (256,))
        log_p = np.asarray(log_prob(p, float32(GREY)[:, None]), float)
        error = boundary_error(log_scale - 0.5)  # the least scale of the mixture
        assert np.exp(log_p).sum() == pytest.approx(1, abs=error)

    @pytest.mark.parametrize("log_scale", [-7.0, -2.5, 7.0])
    @pytest.mark.parametrize("channels", [2, 3])
    def test_each_channel_is_normalized_given_those_before(self, channels, log_scale):
        """sum over x_c of p(x_1 .. x_c) = p(x_1 .. x_{c-1}) for the last channel."""
        parameters = mixture_parameters(channels, log_scale=log_scale)
        before = float32(
            np.array([[0, 7, 128, 255], [90, 3, 255, 200]])[: channels - 1] / 255
        )
        x = np.empty((256, 4, channels), np.float32)
        x[..., :-1], x[..., -1] = before.T, GREY[:, None]
        joint = log_prob(mixture(parameters, (256, 4)), x)
        marginal = log_prob(mixture(parameters, (4,), channels - 1), before.T)
        # in logs, since what comes before may be as improbable as exp(-5000); a log
        # of size |log p| is rounded to that times EPS, and so moves the ratio
        size = np.abs(marginal).max()
        error = boundary_error(log_scale - 0.5) + 10 * EPS * size
        total = logsumexp(np.asarray(joint, float), axis=0)
        np.testing.assert_allclose(total, marginal, atol=error)

    def test_probabilities_of_all_pairs_sum_to_one(self):
        pairs = np.stack(np.meshgrid(GREY, GREY, indexing="ij"), -1).reshape(-1, 2)
        parameters = mixture_parameters(2)
        log_p = log_prob(mixture(parameters, (len(pairs),)), float32(pairs))
        total = np.exp(np.asarray(log_p, float)).sum()
        assert total == pytest.approx(1, abs=2 * boundary_error(-3.0))

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_log_prob_is_that_of_the_paper(self, channels):
        """Scales of about ten bins: there the plain difference of sigmoids is exact."""
        parameters = mixture_parameters(channels, seed=channels)
        exact = {n: a.astype(float) for n, a in parameters.items()}
        rng = np.random.default_rng(1)
        levels = rng.integers(0, 256, (40, channels))
        levels[0], levels[1] = 0, 255
        x = levels / 255
        got = log_prob(mixture(parameters, (40,)), float32(x))
        want = np.log([mixture_reference(pixel, **exact) for pixel in x])
        # a sigmoid's argument is wrong by 4 EPS / scale, and log s moves no faster
        # than its argument: 2 for each channel; log p itself is rounded
        error = channels * 2 * 4 * EPS / np.exp(-3.0) + 20 * EPS
        np.testing.assert_allclose(got, want, atol=error, rtol=10 * EPS)

    @pytest.mark.parametrize("log_scale", [-7.0, 0.0, 7.0])
    def test_gradient_is_finite_for_extreme_parameters(self, log_scale):
        """Also in the far tails, where a difference of two sigmoids is 0 - 0."""
        parameters = mixture_parameters(3, log_scale=log_scale)
        parameters["locs"] = float32(parameters["locs"] + [[5], [-5], [0]])
        x = float32([[0, 0, 0], [1, 1, 1], [0, 1, 0.2], [0.5, 0.5, 0.5]])

        def total(parameters):
            return log_prob(mixture(parameters, (4,)), x).sum()

        value, gradients = jax.jit(jax.value_and_grad(total))(parameters)
        assert np.isfinite(value)
        for gradient in jax.tree.leaves(gradients):
            assert np.isfinite(gradient).all()
        assert np.abs(gradients["locs"]).max() > 0

    @pytest.mark.parametrize("channels", [1, 2])
    def test_draws_lie_on_the_grid_and_follow_the_probabilities(self, channels):
        parameters = mixture_parameters(channels, log_scale=-1.5)
        samples = draw(mixture(parameters), 50_000)
        assert on_grid(samples)
        grids = np.meshgrid(*[GREY] * channels, indexing="ij")
        x = np.stack(grids, -1).reshape(-1, channels)
        log_p = log_prob(mixture(parameters, (len(x),)), float32(x))
        p = np.exp(np.asarray(log_p, float))
        assert_mean(samples, p @ x)
        assert_mean(samples**2, p @ x**2)
        if channels == 2:
            assert_mean(samples.prod(-1), p @ x.prod(-1))

    @pytest.mark.parametrize("log_scale", [-3.0, -1.0])
    def test_mean_of_one_channel_is_that_of_the_levels(self, log_scale):
        """Also where locations are far beyond black and white, as of white paper.

        Levels are taken as continuous, the midpoint rule for an integral over [-1, 1]:
        its error is at most h^2 / 12 times the largest second derivative of the
        sigmoid, 0.0963 / scale^2, halved on the scale [0, 1].
        """
        parameters = mixture_parameters(1, log_scale=log_scale)
        parameters["locs"] = float32([[-4.0, 0.3, 1.1]])
        x, p = GREY[:, None], mixture(parameters, (256,))
        exact = np.exp(np.asarray(log_prob(p, float32(x)), float)) @ x
        midpoint = (2 / 255) ** 2 / 12 * 0.0963 * np.exp(1 - 2 * log_scale) / 2
        atol = midpoint + 20 * EPS
        np.testing.assert_allclose(mixture(parameters).mean, exact, atol=atol)

    def test_means_of_colours_beyond_white_are_those_of_draws(self):
        """Green follows red, whose location is far beyond white, to the level it has.

        Taking a mean at the mean before it is wrong by no more than the coefficient
        times the spread of that, 2 log 2 scales, halved on the scale [0, 1].
        """
        p = d.LogisticMixture(
            logits=jnp.zeros(1),
            locs=jnp.array([[5.0], [-0.7], [0.2]]),
            log_scales=jnp.full((3, 1), -4.0),
            coefficients=jnp.zeros((3, 3, 1)).at[1, 0].set(0.9).at[2, 1].set(-0.5),
        )
        np.testing.assert_allclose(p.mean, [1.0, 0.6, 0.55], atol=1e-5)
        draws = draw(p, 20_000)
        spread = 0.9 * np.log(2) * np.exp(-4)
        noise = 5 * np.pi / np.sqrt(3) * np.exp(-4) / 2 / np.sqrt(20_000)
        np.testing.assert_allclose(p.mean, draws.mean(0), atol=spread + noise)

    def test_mean_of_many_channels_is_the_mean_of_the_probabilities(self):
        """E[x_2] = sum_m pi_m (mu_2m + c_m E[x_1 | m]), not c_m E[x_1].

        Two components at -0.5 and 0.5 with coefficients -0.8 and 0.8: E[x_1] = 0 and
        E[x_2] = 0.4 on the scale [-1, 1]. Scales are as in the test above.
        """
        p = d.LogisticMixture(
            logits=jnp.zeros(2),
            locs=jnp.array([[-0.5, 0.5], [0.0, 0.0]]),
            log_scales=jnp.full((2, 2), -3.0),
            coefficients=jnp.zeros((2, 2, 2)).at[1, 0].set(jnp.array([-0.8, 0.8])),
        )
        np.testing.assert_allclose(p.mean, [0.5, 0.7], atol=1e-4)


def examples():
    batched = mixture_parameters(3)
    return {
        "normal": (d.Normal(jnp.zeros(4), jnp.ones(4)), jnp.full(4, 0.2)),
        "delta": (d.Delta(jnp.zeros(4)), jnp.zeros(4)),
        "bernoulli": (d.Bernoulli(jnp.arange(4.0)), jnp.full(4, 0.2)),
        "continuous": (d.ContinuousBernoulli(jnp.arange(4.0)), jnp.full(4, 0.2)),
        "levels": (
            d.Levels(jax.random.normal(KEY, (4, 256))),
            jnp.array([0.0, 0.2, 0.4, 1.0]),
        ),
        "mixture": (mixture(batched, (4,)), jnp.full((4, 3), 0.2)),
    }


@pytest.mark.parametrize("name", examples())
def test_distributions_pass_through_jit(name):
    """As an argument and as a result they keep their shape, parameters and density."""
    p, x = examples()[name]
    same = jax.jit(lambda p: p)(p)
    assert type(same) is type(p)
    assert (same.batch_shape, same.event_shape) == (p.batch_shape, p.event_shape)
    jax.tree.map(np.testing.assert_array_equal, same, p)
    inside = jax.jit(lambda p, x: p.log_prob(x))(p, x)
    # a fused program rounds otherwise, on terms below 100
    np.testing.assert_allclose(inside, p.log_prob(x), atol=100 * EPS)


@pytest.mark.parametrize("name", examples())
def test_log_prob_maps_over_samples_of_one_distribution(name):
    p, x = examples()[name]
    many = jnp.stack([x, x, x])
    for row in jax.jit(jax.vmap(p.log_prob))(many):
        np.testing.assert_allclose(row, p.log_prob(x), atol=100 * EPS)


@pytest.mark.parametrize("name", ["bernoulli", "continuous", "levels", "mixture"])
def test_log_prob_maps_over_distributions(name):
    """vmap strips an axis off the parameters, so their shapes must be read again."""
    p, x = examples()[name]
    each = jax.jit(jax.vmap(lambda p, x: p.log_prob(x)))(p, x)
    np.testing.assert_allclose(each, p.log_prob(x), atol=100 * EPS)


def test_lower_triangular_places_row_by_row():
    rows = jnp.arange(1.0, 4.0)[:, None]
    want = [[0, 0, 0], [1, 0, 0], [2, 3, 0]]
    np.testing.assert_array_equal(d.lower_triangular(rows, 3)[..., 0], want)
    assert d.lower_triangular(jnp.zeros((5, 0, 7)), 1).shape == (5, 1, 1, 7)


class TestDivergence:
    z = jax.random.normal(KEY, (2, 3, 2))  # samples, batch, latents

    def test_of_normals_is_the_closed_form(self):
        """log(s_p / s_q) + (s_q^2 + (m_q - m_p)^2) / (2 s_p^2) - 1/2."""
        rng = np.random.default_rng(0)
        m_q, m_p = rng.normal(size=(2, 3, 2))
        s_q, s_p = rng.uniform(0.3, 2, (2, 3, 2))
        q, p = (
            d.Normal(float32(m_q), float32(s_q)),
            d.Normal(float32(m_p), float32(s_p)),
        )
        want = np.log(s_p / s_q) + (s_q**2 + (m_q - m_p) ** 2) / (2 * s_p**2) - 0.5
        # terms up to (4 + 9) / 0.2 = 70, rounded
        got = d.kl_divergence(q, p)
        np.testing.assert_allclose(got, want, rtol=10 * EPS, atol=70 * EPS)

    def test_against_one_prior_for_all_examples(self):
        q = d.Normal(self.z[0], jnp.full((3, 2), 0.5))
        one = d.Normal(jnp.zeros((1, 2)), jnp.ones((1, 2)))
        each = d.Normal(jnp.zeros((3, 2)), jnp.ones((3, 2)))
        np.testing.assert_array_equal(d.kl_divergence(q, one), d.kl_divergence(q, each))

    def test_without_closed_form_is_an_unbiased_estimate(self):
        """Laplace || Normal against the integral of q log(q / p)."""
        q = d.Laplace(jnp.full((1, 1), 0.5), jnp.full((1, 1), 0.8))
        p = d.Normal(jnp.zeros((1, 1)), jnp.ones((1, 1)))
        with pytest.raises(NotImplementedError):  # else nothing is tested here
            dist.kl_divergence(q, p)
        z = draw(q, 50_000)
        assert d.kl_divergence(q, p) is None
        term = latent_term(q, p, z, log_density(q, z))
        estimate = np.asarray(term.kl)
        assert estimate.shape == z.shape
        a, b = scipy.stats.laplace(0.5, 0.8), scipy.stats.norm()
        exact = quad(
            lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), -30, 30, points=[0.5]
        )[0]
        assert_mean(estimate[:, 0, 0], exact)


def test_scale_of_a_gaussian_is_the_root_mean_square():
    p = d.Normal(jnp.zeros((2, 2)), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    assert float(d.scale_of(p)) == pytest.approx(np.sqrt(30 / 4), rel=4 * EPS)
    assert float(d.scale_of(d.Normal(0.0, 0.5))) == 0.5


def test_other_likelihoods_have_no_sigma():
    for p, _ in (examples()[name] for name in ("continuous", "levels", "mixture")):
        assert d.scale_of(p) is None
    assert d.scale_of(d.Bernoulli(jnp.zeros(2))) is None
    assert d.scale_of(d.Laplace(0.0, 1.0)) is None


@pytest.mark.parametrize("name", examples())
def test_sample_shapes_stand_before_batch_shapes(name):
    """numpyro's own samplers promote ranks, so the strict flag is off here."""
    p, x = examples()[name]
    with jax.numpy_rank_promotion("allow"):
        many = jax.eval_shape(lambda p: p.sample(KEY, (5, 2)), p)
    assert many.shape == (5, 2, *x.shape)
