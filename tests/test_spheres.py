"""Densities on spheres against Bessel functions, quadrature and moments of draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from vaejax.distributions import kl_divergence
from vaejax.distributions.spheres import (
    UniformSphere,
    VonMisesFisher,
    accepted_cosines,
    cosine_at,
    log_area,
)

KEY = jax.random.key(0)
CASES = [(m, k) for m in (2, 3, 5, 40) for k in (0.1, 1.0, 10.0, 1000.0)]


def log_bessel(order, kappa):
    """log I_order(kappa) in float64."""
    return np.log(special.ive(order, kappa)) + kappa


def log_normalizer(m, kappa):
    """log C of exp(kappa mu x) / C, by Bessel functions [Davidson et al. 2018]."""
    half = m / 2 - 1
    return m / 2 * np.log(2 * np.pi) + log_bessel(half, kappa) - half * np.log(kappa)


def mean_cosine(m, kappa):
    return special.ive(m / 2, kappa) / special.ive(m / 2 - 1, kappa)


def of(m, kappa):
    """The distribution around the first axis, of one example."""
    return VonMisesFisher(jnp.eye(m)[:1], jnp.full((1,), kappa, jnp.float32))


@jax.jit
def numbers(q):
    p = UniformSphere(1, q.event_shape[0])
    return q.log_prob(q.loc), q.entropy(), kl_divergence(q, p), q.mean_cosine


@pytest.mark.parametrize(("m", "kappa"), CASES)
def test_normalizer_entropy_and_divergence_are_those_of_bessel_functions(m, kappa):
    """To some float32 roundings of numbers of the order of m, and of kappa."""
    log_prob, entropy, kl, cosine = (float(v[0]) for v in numbers(of(m, kappa)))
    log_c, mean = log_normalizer(m, kappa), mean_cosine(m, kappa)
    close = 3e-6 * (m + 5)
    assert log_prob == pytest.approx(kappa - log_c, abs=close + 1.2e-7 * kappa)
    assert cosine == pytest.approx(mean, rel=1e-5)
    want = log_c - kappa * mean
    assert entropy == pytest.approx(want, abs=close)
    assert kl == pytest.approx(log_area(m) - want, abs=close)


@pytest.mark.parametrize("kappa", [0.5, 30.0])
def test_density_integrates_to_one(kappa):
    """On the circle by angle; on the sphere by the cosine, uniform without kappa."""

    def densities(m, cosines):
        points = np.zeros((len(cosines), m))
        points[:, 0], points[:, 1] = cosines, np.sqrt(1 - cosines**2)
        return np.exp(jax.jit(of(m, kappa).log_prob)(jnp.float32(points)))

    angles = np.linspace(-np.pi, np.pi, 201)[:-1]
    circle = densities(2, np.cos(angles))
    assert np.mean(circle) * 2 * np.pi == pytest.approx(1, abs=1e-5)
    nodes, parts = np.polynomial.legendre.leggauss(60)
    sphere = 2 * np.pi * densities(3, nodes)
    assert np.dot(sphere, parts) == pytest.approx(1, abs=1e-5)


def test_areas():
    areas = [np.exp(log_area(m)) for m in (1, 2, 3)]
    np.testing.assert_allclose(areas, [2, 2 * np.pi, 4 * np.pi])


@pytest.mark.parametrize(("m", "kappa"), [(2, 3.0), (8, 40.0)])
def test_draws_have_the_density_of_cosines(m, kappa):
    """A Kolmogorov-Smirnov test of 20,000 cosines with the distribution function."""
    q = of(m, kappa)
    draws = jax.jit(lambda q: q.sample(KEY, (20_000,)))(q)[:, 0]
    np.testing.assert_allclose(np.linalg.norm(draws, axis=-1), 1, atol=1e-5)
    grid = np.cos(np.linspace(np.pi, 0, 4001))

    def unnormalized(a):  # by angle, where ends have no singularity
        return np.exp(kappa * (np.cos(a) - 1)) * np.sin(a) ** (m - 2)

    angles = np.arccos(grid)
    total = integrate.cumulative_trapezoid(unnormalized(angles), -angles, initial=0)
    found = stats.kstest(
        np.asarray(draws[:, 0]), lambda t: np.interp(t, grid, total / total[-1])
    )
    assert found.pvalue > 1e-3
    # The other axes are alike and without a mean.
    error = np.std(draws[:, 1:], axis=0) / np.sqrt(len(draws))
    assert (abs(np.mean(draws[:, 1:], axis=0)) < 5 * error).all()
    variance = np.asarray(q.variance)[0]
    spread = np.square(np.asarray(draws) - np.asarray(draws).mean(0))
    error = spread.std(0) / np.sqrt(len(draws))
    assert (abs(spread.mean(0) - variance) < 5 * error).all()


@pytest.mark.parametrize(("m", "kappa"), [(2, 3.0), (8, 40.0)])
def test_draws_have_the_slope_of_expectations(m, kappa):
    """d/dkappa E[t^n] is the mean of n t^(n-1) dt/dkappa, n = 1 and 2; rejection
    without its correction would be off. Within 5 standard errors of 20,000 draws.
    """

    def slopes(kappa):
        concentration = jnp.full((20_000,), kappa)
        kept = accepted_cosines(KEY, concentration, m)
        return jax.jvp(
            lambda k: cosine_at(k, kept, m),
            (concentration,),
            (jnp.ones_like(concentration),),
        )

    t, slope = (np.asarray(part, float) for part in jax.jit(slopes)(kappa))

    def expected(n, kappa):
        def moment(power):
            return integrate.quad(
                lambda a: (
                    np.cos(a) ** power
                    * np.exp(kappa * (np.cos(a) - 1))
                    * np.sin(a) ** (m - 2)
                ),
                0,
                np.pi,
            )[0]

        return moment(n) / moment(0)

    for n in (1, 2):
        step = 1e-3 * kappa
        want = (expected(n, kappa + step) - expected(n, kappa - step)) / (2 * step)
        found = n * t ** (n - 1) * slope
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - want) < 5 * error
        assert abs(want) > 20 * error  # else nothing is compared


def test_the_slope_of_a_draw_is_that_of_its_quantile():
    """On the sphere of R^3 the quantile has a formula: F is a truncated exponential."""
    kappa, cosine = jnp.array([0.3, 2.0, 50.0]), jnp.array([0.2, -0.9, 0.95])

    def quantile(kappa, share):
        low = np.exp(-2 * kappa)
        return 1 + np.log(share + (1 - share) * low) / kappa

    @jax.jit
    def moved(kappa):
        return jax.jvp(
            lambda k: cosine_at(k, cosine, 3), (kappa,), (jnp.ones_like(kappa),)
        )

    t, slope = (np.asarray(part, float) for part in moved(kappa))
    k = np.asarray(kappa, float)
    share = (np.exp(k * (t - 1)) - np.exp(-2 * k)) / (1 - np.exp(-2 * k))
    want = (quantile(k + 1e-4, share) - quantile(k - 1e-4, share)) / 2e-4
    np.testing.assert_allclose(slope, want, rtol=1e-3)


def test_nan_ends_the_rejection():
    q = VonMisesFisher(jnp.eye(3)[:1], jnp.array([jnp.nan]))
    assert not np.isfinite(q.sample(KEY)).all()
