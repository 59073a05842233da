"""Metrics: exact counts, exact samples, and the closed forms of a linear model.

EPS is the rounding of one float32 operation. The model of known evidence comes from
test_inference; sampling tests allow 5 standard errors.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_inference import (
    BATCH,
    EPS,
    EXACT,
    KEY,
    ROUNDING,
    WRONG,
    L,
    LinearGaussian,
    assert_mean,
    data,
    gap,
    log_evidence,
    variables,
)
from vaejax import distributions as d
from vaejax.metrics import (
    active_units,
    count,
    elbo_terms,
    importance_log_likelihood,
    likelihood_metrics,
    nll,
    reconstruction_error,
)
from vaejax.metrics.base import merge, moments, no_moments
from vaejax.models import LatentModel

MODEL = LinearGaussian()
estimate = jax.jit(
    lambda state, batch, key, samples, chunk=50: importance_log_likelihood(
        MODEL, state, batch, key, samples, chunk
    ),
    static_argnums=(3, 4),
)


def batches(x, size, junk=1e3):
    """Batches of equal size, the last one padded with `junk` of weight 0."""
    for start in range(0, len(x), size):
        part = x[start : start + size]
        missing = size - len(part)
        weight = jnp.concatenate([jnp.ones(len(part)), jnp.zeros(missing)])
        pad = jnp.full((missing, *x.shape[1:]), junk)
        yield {"x": jnp.concatenate([part, pad]), "weight": weight}


def fold(metric, p, x, size, junk=1e3):
    """The metric over a split, batch b with key fold_in(KEY, b)."""
    update = jax.jit(metric.update, static_argnums=1)
    acc = metric.init()
    for b, batch in enumerate(batches(x, size, junk)):
        acc = update(acc, MODEL, variables(p), batch, jax.random.fold_in(KEY, b))
    return metric.compute(acc)


class TestMoments:
    @pytest.mark.parametrize("sizes", [(30, 50, 1, 19), (100,), (1, 99)])
    def test_merged_batches_have_the_moments_of_one(self, sizes):
        """Mean and unbiased variance over 1e4 with spread 10, in float32.

        A float32 near 1e4 is rounded by 1e-3 / 2, which moves a squared deviation of
        100 by 2 * 10 * 5e-4, 1e-4 of it; E[x^2] - E[x]^2 would be wrong by 6 of 100.
        """
        x = np.random.default_rng(0).normal(1e4, 10, (100, 2)).astype(np.float32)
        acc = no_moments((2,))
        for part in np.split(x, np.cumsum(sizes)[:-1]):
            acc = merge(acc, moments(jnp.asarray(part), jnp.ones(len(part))))
        exact = x.astype(float)
        assert acc.count == 100
        np.testing.assert_allclose(acc.mean, exact.mean(0), rtol=4 * EPS)
        np.testing.assert_allclose(acc.variance, exact.var(0, ddof=1), rtol=2e-4)
        error = exact.std(0, ddof=1) / 10
        np.testing.assert_allclose(acc.standard_error, error, rtol=2e-4)

    def test_padding_weighs_nothing_whatever_it_holds(self):
        x = np.random.default_rng(0).normal(size=8).astype(np.float32)
        weight = np.float32([1, 0, 1, 1, 0, 1, 1, 1])
        for junk in (1e30, np.nan, np.inf):
            got = moments(jnp.where(weight == 1, x, junk), jnp.asarray(weight))
            kept = x[weight == 1].astype(float)
            np.testing.assert_allclose(got.mean, kept.mean(), atol=10 * EPS)
            np.testing.assert_allclose(got.variance, kept.var(ddof=1), rtol=20 * EPS)

    def test_a_batch_of_padding_changes_nothing(self):
        some = moments(jnp.array([1.0, 5.0]), jnp.ones(2))
        none = moments(jnp.array([7.0, 7.0]), jnp.zeros(2))
        for both in (merge(some, none), merge(none, some)):
            assert (both.count, both.mean, both.variance) == (2, 3, 8)

    def test_one_example_has_no_spread(self):
        one = merge(no_moments(), moments(jnp.array([3.0]), jnp.ones(1)))
        assert one.mean == 3
        assert np.isnan(one.standard_error)


class TestLogLikelihood:
    @pytest.mark.parametrize(("samples", "chunk"), [(1, 50), (7, 3), (50, 50), (60, 7)])
    def test_exact_posterior_gives_the_evidence_from_any_number_of_draws(
        self, samples, chunk
    ):
        """All weights are p(x), so even one is enough, and there is no bias."""
        batch = data(EXACT)
        log_p, bias, *_ = estimate(variables(EXACT), batch, KEY, samples, chunk)
        np.testing.assert_allclose(
            log_p, log_evidence(EXACT, batch["x"]), atol=ROUNDING
        )
        # log weights are rounded by ROUNDING; their relative variance by its square
        np.testing.assert_allclose(bias, 0, atol=10 * EPS)

    @pytest.mark.parametrize("samples", [1, 7, 12])
    def test_uses_exactly_the_samples_that_it_is_asked_for(self, samples):
        """log 1/S sum_{s < S} w_s with the draw s of key fold_in(key, s).

        The popular reference uses a whole batch of draws where fewer are asked for,
        and drops the remainder where more are.
        """
        batch, state = data(WRONG), variables(WRONG)

        @jax.jit
        def log_w(s):
            q = MODEL.apply(state, batch, method="posterior")
            z = q.sample(jax.random.fold_in(KEY, s))[None]
            return MODEL.apply(state, {"z": z}, batch, method="weigh").log_w[0]

        weights = np.exp(np.array([log_w(s) for s in range(samples)], float))
        log_p, bias, *_ = estimate(state, batch, KEY, samples, 5)
        np.testing.assert_allclose(log_p, np.log(weights.mean(0)), atol=ROUNDING)
        relative = weights.var(0) / weights.mean(0) ** 2 / samples
        np.testing.assert_allclose(bias, relative / 2, atol=ROUNDING)

    def test_does_not_depend_on_the_chunk(self):
        batch, state = data(WRONG), variables(WRONG)
        want = estimate(state, batch, KEY, 23, 23)
        for chunk in (4, 100):
            for a, b in zip(estimate(state, batch, KEY, 23, chunk), want, strict=True):
                np.testing.assert_allclose(a, b, atol=ROUNDING)

    def test_is_a_lower_bound_that_rises_to_the_evidence(self):
        """With 1 sample its mean is the ELBO, with many it is nearly log p(x)."""
        x = jnp.tile(data(WRONG)["x"][:1], (4000, 1))
        log_p, kl = log_evidence(WRONG, x[0]), gap(WRONG, x[:1])[0]
        one = estimate(variables(WRONG), {"x": x}, KEY, 1)[0]
        assert_mean(one, log_p - kl, ROUNDING)
        many = np.asarray(estimate(variables(WRONG), {"x": x}, KEY, 100)[0])
        error = many.std() / np.sqrt(len(many))
        assert one.mean() < many.mean() < log_p + 5 * error

    def test_bias_is_the_gap_that_the_finite_sample_leaves(self):
        """E[log p(x) - estimate] = E[bias] to first order in 1/S.

        mean w / p(x) - 1 has expectation 0 and is the bulk of the estimate's error, so
        adding it leaves little noise. The next order is as much smaller as the bias is,
        half a percent; 10 % is twenty times that, and far from a factor 2.
        """
        x = jnp.tile(data(WRONG)["x"][:1], (4000, 1))
        found = estimate(variables(WRONG), {"x": x}, KEY, 100)
        log_p, bias = np.asarray(found.log_p), np.asarray(found.bias)
        error = log_p.astype(float) - log_evidence(WRONG, x[0])
        left = np.expm1(error) - error  # about error^2 / 2
        assert bias.mean() > 0.003
        assert_mean(left - bias, 0, 0.1 * bias.mean())


DIMS, LOG_BIN = 5, -math.log(256)


@pytest.fixture(scope="module")
def x():
    return data(WRONG, 23)["x"]


@pytest.fixture(scope="module")
def result(x):
    metric = nll(9, log_bin=LOG_BIN, chunk=4)
    return fold(metric, WRONG, x, size=10)


@pytest.fixture(scope="module")
def each(x):
    """log p of every example, and its bias, from the padded batches."""
    parts = [
        np.array(
            estimate(variables(WRONG), batch, jax.random.fold_in(KEY, b), 9, 4)[:2]
        )
        for b, batch in enumerate(batches(x, 10))
    ]
    return np.concatenate(parts, axis=1)[:, :23].astype(float)


class Coins(LatentModel):
    """x independent of z: fair bits, or uniform numbers in [0, 1]."""

    discrete: bool

    def posterior(self, batch):
        return self.prior(batch)

    def prior(self, batch):
        shape = (len(batch["x"]), L)
        return d.Normal(jnp.zeros(shape), jnp.ones(shape))

    def likelihood(self, z, batch):
        logits = jnp.zeros((len(z), *batch["x"].shape))
        return (d.Bernoulli if self.discrete else d.ContinuousBernoulli)(logits)


class TestNll:
    def test_mean_and_standard_error_over_examples(self, result, each):
        log_p, bias = each
        np.testing.assert_allclose(result["nll"], -log_p.mean(), rtol=100 * EPS)
        error = log_p.std(ddof=1) / np.sqrt(23)
        np.testing.assert_allclose(result["nll_se"], error, rtol=1e-4)
        np.testing.assert_allclose(result["nll_bias"], bias.mean(), rtol=1e-4)

    def test_bits_per_dim_of_a_density_count_the_bins(self, result):
        """-log2 P(level) / dims, where P(level) is about p(x) * bin^dims."""
        want = (result["nll"] / DIMS - LOG_BIN) / math.log(2)
        np.testing.assert_allclose(result["bits_per_dim"], want, rtol=10 * EPS)

    @pytest.mark.parametrize(
        ("discrete", "log_bin", "bits"),
        [
            (True, 0.0, 1.0),
            (False, LOG_BIN, 8.0),
        ],
    )
    def test_a_fair_coin_takes_one_bit_and_a_uniform_level_of_256_takes_8(
        self, discrete, log_bin, bits
    ):
        metric = nll(3, log_bin=log_bin)
        batch = {"x": jnp.ones((4, DIMS)), "weight": jnp.ones(4)}
        acc = metric.update(metric.init(), Coins(discrete), {}, batch, KEY)
        # the log weights of draws cancel to rounding
        assert float(metric.compute(acc)["bits_per_dim"]) == pytest.approx(
            bits, abs=ROUNDING
        )

    def test_bits_per_dim_of_probabilities_need_no_bin(self, x):
        result = fold(nll(3, log_bin=0.0), WRONG, x, size=23)
        want = result["nll"] / DIMS / math.log(2)
        np.testing.assert_allclose(result["bits_per_dim"], want, rtol=10 * EPS)

    def test_is_offered_where_samples_are_asked_for(self):
        assert set(likelihood_metrics(0, log_bin=0.0)) == {"terms"}
        assert set(likelihood_metrics(9, log_bin=0.0)) == {"terms", "nll"}


@pytest.mark.parametrize("size", [1, 4, 23, 100])
def test_examples_are_counted_exactly(size):
    assert fold(count(), WRONG, data(WRONG, 23)["x"], size)["examples"] == 23


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (elbo_terms(), ("elbo", "distortion", "kl")),
        (reconstruction_error(), ("distortion", "mse")),
    ],
)
def test_averages_ignore_padding(metric, names):
    """23 examples in batches of 10, padded with junk: as with other junk."""
    x = data(WRONG, 23)["x"]
    one, other = (fold(metric, WRONG, x, 10, junk) for junk in (0.0, 1e3))
    assert set(one) == {*names, *(f"{name}_se" for name in names)}
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=4 * EPS)


def test_elbo_terms_are_those_of_the_closed_form():
    """E[ELBO] = log p(x) - KL(q || posterior), and ELBO = -distortion - KL."""
    x = jnp.tile(data(WRONG)["x"], (500, 1))
    result = fold(elbo_terms(), WRONG, x, size=len(x))
    want = (log_evidence(WRONG, x[:BATCH]) - gap(WRONG, x[:BATCH])).mean()
    assert abs(result["elbo"] - want) < 5 * result["elbo_se"]
    total = -result["distortion"] - result["kl"]
    np.testing.assert_allclose(result["elbo"], total, rtol=20 * EPS)


def test_mean_squared_error_is_that_of_the_mean():
    """E[(x - E[x | z])^2] over entries, where z is drawn from q."""
    x = jnp.tile(data(WRONG)["x"][:1], (4000, 1))
    result = fold(reconstruction_error(), WRONG, x, size=len(x))
    residual = np.asarray(x[0], float) - WRONG["b"]
    error = residual - WRONG["W"] @ WRONG["A"] @ residual
    spread = np.square(WRONG["W"] * np.exp(WRONG["log_s"])).sum(-1)
    want = np.mean(error**2 + spread)
    assert abs(result["mse"] - want) < 5 * result["mse_se"]


def test_active_units_are_those_whose_mean_varies():
    """Var_x(E[u | x]) above 0.01, unbiased, over the whole split [Burda 2016, 5].

    Latent u is x times sqrt(v_u) with x = +-1 scaled to unbiased variance 1, so its
    variance is v_u; all latents carry an offset that must not count.
    """
    n = 24
    x = np.tile([1.0, -1.0], n // 2) * np.sqrt((n - 1) / n)
    for v, active in (
        ((0.0099, 0.0101), 1),
        ((0.0, 1e-6), 0),
        ((1.0, 0.02), 2),
    ):
        A = np.zeros((2, 5))
        A[:, 0] = np.sqrt(v)
        A[:, 1] = 3.0
        p = WRONG | {"A": A, "b": np.zeros(5)}
        entries = np.stack([x, *np.ones((4, n))], -1)
        for size in (n, 7):
            result = fold(active_units(2), p, jnp.asarray(entries, jnp.float32), size)
            assert result["active_units"] == active
