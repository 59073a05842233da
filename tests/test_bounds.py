"""Bounds of several draws, as functions of log-weights, against NumPy and calculus."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_inference import EPS, KEY, ROUNDING, WRONG, data, log_evidence, run
from tests.test_inference import variables as of
from vaejax import InputError
from vaejax.inference import bounds as b
from vaejax.presets import PRESETS
from vaejax.presets.bounds import Importance

K, M, ROWS = 3, 2, 4
LOG_W = np.random.default_rng(0).normal(-50, 2, (K * M, ROWS))
BOUNDS = {
    "iwae": b.importance_weighted(K * M),
    "multiply": b.multiply_weighted(K, M),
    "combination": b.combined(K * M, 0.3),
    "renyi": b.renyi(K * M, 0.5),
    "renyi below 0": b.renyi(K * M, -1.0),
    "renyi above 1": b.renyi(K * M, 3.0),
    "max": b.largest_weight(K * M),
}


def value(bound, log_w=LOG_W):
    return np.asarray(bound.value(jnp.asarray(log_w, jnp.float32)), np.float64)


def log_mean(log_w):
    return np.log(np.exp(log_w - log_w.max(0)).mean(0)) + log_w.max(0)


@functools.cache
def calculus():
    """Slopes of all bounds, diagonals of second derivatives, and growth by slopes."""

    def each(bound):
        def one(log_w):
            return bound.value(log_w[:, None])[0]

        v = jax.vmap(jax.grad(one), 1, 1)(log_w)
        curvature = jax.vmap(lambda w: jnp.diagonal(jax.hessian(one)(w)), 1, 1)(log_w)
        return v, curvature, v if bound.growth is None else bound.growth(v)

    log_w = jnp.asarray(LOG_W, jnp.float32)
    return jax.jit(lambda: {name: each(bound) for name, bound in BOUNDS.items()})()


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_grows_with_all_log_weights_and_its_slopes_sum_to_one(name):
    bound = BOUNDS[name]
    assert bound.draws == len(LOG_W)
    shifted = value(bound, LOG_W + 7)
    np.testing.assert_allclose(shifted, value(bound) + 7, atol=100 * 50 * EPS)
    np.testing.assert_allclose(calculus()[name][0].sum(0), 1, atol=100 * EPS)


@pytest.mark.parametrize("name", [n for n in BOUNDS if n != "max"])
def test_growth_is_the_second_derivative_over_the_slope(name):
    """The identity behind the doubly reparameterized gradient, for each bound.

    The rounding is that of differences of log-weights, some 50 nats.
    """
    v, curvature, growth = calculus()[name]
    assert np.abs(curvature).max() > 0.05
    np.testing.assert_allclose(v * growth, curvature, atol=10 * 50 * EPS)


def test_repeats_are_averaged_outside_the_logarithm_and_samples_inside():
    """M of K, not K of M: pythae has them swapped, which equal numbers hide."""
    groups = LOG_W.reshape(M, K, ROWS)
    want = np.mean([log_mean(group) for group in groups], axis=0)
    tolerance = 20 * 50 * EPS
    got = value(b.multiply_weighted(samples=K, repeats=M))
    np.testing.assert_allclose(got, want, atol=tolerance)
    swapped = value(b.multiply_weighted(samples=M, repeats=K))
    assert (np.abs(swapped - want) > 100 * tolerance).all()
    importance = Importance(samples=K, repeats=M, bound="multiply")
    np.testing.assert_allclose(value(importance.trained), want, atol=tolerance)


def test_one_sample_repeated_is_the_elbo_and_one_repeat_is_iwae():
    draws, tolerance = K * M, 10 * 50 * EPS
    elbo = value(b.multiply_weighted(1, draws))
    np.testing.assert_allclose(elbo, LOG_W.mean(0), atol=tolerance)
    iwae = value(b.multiply_weighted(draws, 1))
    np.testing.assert_allclose(iwae, log_mean(LOG_W), atol=tolerance)


def test_the_combination_is_between():
    want = 0.3 * LOG_W.mean(0) + 0.7 * log_mean(LOG_W)
    np.testing.assert_allclose(value(BOUNDS["combination"]), want, atol=1e3 * EPS)


class TestRenyi:
    def test_order_zero_is_iwae_and_one_the_elbo(self):
        tolerance = 20 * 50 * EPS
        iwae, elbo = value(b.renyi(K * M, 0.0)), value(b.renyi(K * M, 1.0))
        np.testing.assert_allclose(iwae, log_mean(LOG_W), atol=tolerance)
        np.testing.assert_allclose(elbo, LOG_W.mean(0), atol=tolerance)

    @pytest.mark.parametrize("power", [1e-2, -1e-2, 1e-4])
    def test_near_one_it_is_the_elbo_and_half_the_variance(self, power):
        """Cumulants: mean + power var / 2 + power^2 skew / 6 + ..., power = 1 - alpha.

        The rounding of a log-mean-exp near 0, of some EPS, is divided by the power.
        """
        want = LOG_W.mean(0) + power * LOG_W.var(0) / 2
        slack = power**2 * 20 + 20 * 50 * EPS + 4 * EPS / abs(power)
        got = value(b.renyi(K * M, 1 - power))
        assert (np.abs(got - want) < slack).all()

    def test_far_below_it_is_the_largest_weight(self):
        got, top = value(b.renyi(K * M, -99.0)), LOG_W.max(0)
        np.testing.assert_allclose(value(BOUNDS["max"]), top, atol=50 * EPS)
        assert (got <= top + 1e3 * EPS).all()
        assert (got >= top - np.log(K * M) / 100 - 1e3 * EPS).all()

    def test_it_falls_with_its_order(self):
        orders = (-5.0, -1.0, 0.0, 0.5, 1.0, 2.0, 5.0)
        found = [value(b.renyi(K * M, order)) for order in orders]
        assert (np.diff(found, axis=0) < 0).all()


def test_bounds_are_ordered_below_the_evidence():
    """On a linear-Gaussian model: ELBO < multiply < IWAE of all draws <= log p(x)."""
    batch = {"x": data(WRONG)["x"][:1]}
    log_p = log_evidence(WRONG, batch["x"])
    log_w = run(of(WRONG), batch, KEY, 60_000).log_w[:, 0]
    groups = jnp.asarray(log_w.reshape(K * M, -1))
    order = ("elbo", "multiply", "iwae")
    every = {**BOUNDS, "elbo": b.multiply_weighted(1, K * M)}
    found = {name: np.asarray(each.value(groups)) for name, each in every.items()}
    for low, high in itertools.pairwise(order):
        gain = found[high] - found[low]
        assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))
    for name in ("elbo", "multiply", "iwae", "combination", "renyi", "renyi above 1"):
        error = found[name].std() / np.sqrt(len(found[name]))
        assert found[name].mean() < log_p + 5 * error + ROUNDING, name


REFUSED = {
    "--repeats is of --bound multiply or partially": {"repeats": 2},
    "--elbo-weight is of --bound combination": {"elbo_weight": 0.1},
    "--order is of --bound renyi": {"order": 0.5},
    "multiply without --repeats is iwae": {"bound": "multiply"},
    "combination without --elbo-weight is iwae": {"bound": "combination"},
    "renyi without --order is iwae": {"bound": "renyi"},
    "dreg is of smooth bounds": {"bound": "max", "gradient": "dreg"},
    "vimco compares draws": {"samples": 1, "gradient": "vimco"},
    "--samples is 0": {"samples": 0},
    "--repeats is 0": {"repeats": 0},
    "--elbo-weight is 1": {"bound": "combination", "elbo_weight": 1.0},
}


@pytest.mark.parametrize("line", REFUSED)
def test_settings_that_do_nothing_or_cannot_be_are_refused(line):
    with pytest.raises(InputError, match=line):
        Importance(**REFUSED[line])


def test_sticking_the_landing_leaves_no_latent_free_bits():
    with pytest.raises(InputError, match="--free-bits"):
        PRESETS["vae"](dataset="digits", gradient="stl", free_bits=1.0)
