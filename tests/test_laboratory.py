"""The laboratory on linear Gaussians, where each of its numbers is known.

One block is x = W z + b + noise; two are the chain of `test_seam`. Estimates are held
to three standard errors of the mean over examples, at a fixed key.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp

from tests.test_inference import assert_mean
from tests.test_seam import (
    BATCH,
    COVARIANCE,
    DEEP,
    S1,
    SIGMA,
    A,
    B,
    D,
    Fixed,
    L,
    T,
    W,
    X,
    conditional_of,
    decoder,
    exact_flow,
    flow_posterior,
    log_marginal,
    normal,
    two_layers,
)
from vaejax import InputError, parallel
from vaejax import distributions as d
from vaejax.laboratory import aggregate, ais, annealing, gaps, over_k
from vaejax.laboratory import rate_distortion as curve
from vaejax.laboratory.joint import joint_of, simulated
from vaejax.laboratory.weights import weight_numbers
from vaejax.models import VAE, StandardNormal

KEY = jax.random.key(3)
GAIN, POSTERIOR = conditional_of(np.eye(L), W, SIGMA)
PRECISION = np.linalg.inv(POSTERIOR)
WIDE = float(np.sqrt(1.2 * np.linalg.eigvalsh(POSTERIOR).max()))
"""A scale of q with which weights are bounded."""
BEST = np.diag(1 / np.diag(PRECISION))
"""Covariance of the diagonal Gaussian with the least KL(q || p(z | x))."""
ONE = exact_flow()
EXACT = {"one": log_marginal(COVARIANCE), "two": log_marginal(DEEP)}
CHAINS = {"chains": 64, "temperatures": 150, "leapfrog": 4}


def diagonal(shift=0.0, scale=None):
    """A model whose q is diagonal: the best one, or shifted and of other scales."""
    scales = np.sqrt(np.diag(BEST)) if scale is None else np.full(L, scale)

    def encoder(batch):
        loc = (batch["x"] - B[None].astype(np.float32)) @ GAIN.T.astype(np.float32)
        return normal(loc + shift, scales[None])

    return VAE(Fixed(encoder), Fixed(decoder), StandardNormal(L))


def divergence(covariance, shift=0.0):
    """KL(q || p(z | x)) of q = N(mean of the posterior + shift, covariance), nats."""
    delta = np.full(L, shift)
    logs = np.linalg.slogdet(POSTERIOR)[1] - np.linalg.slogdet(covariance)[1]
    trace = np.trace(PRECISION @ covariance) + delta @ PRECISION @ delta
    return 0.5 * (trace - L + logs)


def measured(function, model, batch=BATCH, *more, **settings):
    found = parallel.compile_function(function, model, **settings)
    return jax.device_get(found({}, batch, KEY, *more))


def log_mean(log_w):
    return logsumexp(np.float64(log_w), 0) - np.log(len(log_w))


def assert_close_in_mean(found, want, slack=0.0):
    """Within three standard errors of the mean over examples."""
    difference = np.asarray(found, np.float64) - want
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert abs(difference.mean()) <= 3 * error + slack, (difference.mean(), error)


def test_mean_weights_are_the_likelihood_and_mean_logs_are_below():
    """E[w] = p(x) exactly [Neal 2001]; of each chain E[log w] < log p(x)."""

    def chains_of(model, variables, batch, key):
        joint = joint_of(model, variables, batch)
        betas = jnp.asarray(annealing.sigmoid_schedule(CHAINS["temperatures"]))
        evaluate, path, draw = ais.annealing_of(joint, key, betas, 64, 4, "prior")
        return annealing.annealed_chains(evaluate, draw(key, 64), path, key)

    found = measured(chains_of, ONE)
    log_w = np.float64(found.log_w) - EXACT["one"]
    assert_mean(np.exp(log_w), 1.0)
    loss = -log_w.mean(0)
    error = log_w.std(0, ddof=1) / np.sqrt(len(log_w))
    assert loss.mean() > 3 * error.mean() / np.sqrt(len(loss))
    # Of log-normal weights E[log w] = log p(x) - variance / 2.
    np.testing.assert_allclose(loss.mean(), log_w.var(0).mean() / 2, rtol=0.3)
    assert (abs(found.acceptance.mean(0) - annealing.TARGET) < 0.1).all()
    np.testing.assert_allclose(found.log_z[-1], log_mean(found.log_w), rtol=1e-5)


@pytest.fixture(scope="module")
def annealed():
    """Numbers of two blocks from the prior, and the simulated bounds."""
    model = two_layers()
    one = measured(ais.annealed_log_likelihood, model, start="prior", **CHAINS)
    return one, measured(ais.bidirectional_bounds, model, start="prior", **CHAINS)


class TestTwoBlocks:
    def test_annealing_finds_the_likelihood(self, annealed):
        found, _ = annealed
        assert (abs(found["log_p"] - EXACT["two"]) < 3 * found["error"]).all()
        # To first order the variance of log mean w is 1 / ess - 1 / chains.
        first = np.sqrt(1 / found["ess"] - 1 / CHAINS["chains"])
        np.testing.assert_allclose(found["error"], first, rtol=0.1)
        assert (found["bias"] > 0).all() and (found["bias"] < 0.05).all()

    def test_both_sides_of_simulated_data_meet(self, annealed):
        """E[upper - lower] >= 0, and here nearly 0."""
        _, found = annealed
        gap = np.float64(found["upper"] - found["lower"])
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        assert -3 * error < gap.mean() < 0.1
        assert 0 < error < 0.1


def test_annealing_from_a_shifted_posterior_finds_the_likelihood():
    found = measured(
        ais.annealed_log_likelihood, diagonal(0.1, WIDE), start="posterior", **CHAINS
    )
    assert (abs(found["log_p"] - EXACT["one"]) < 3 * found["error"]).all()


def test_simulated_examples_are_draws_of_the_model():
    """x and z have the model's joint covariance."""
    many = {"x": jnp.zeros((4000, D))}
    z, batch = measured(simulated, two_layers(), many)
    found = np.concatenate([batch["x"] - B, z[0]], 1)
    top = np.concatenate([W @ A, A, np.eye(T)])
    middle = np.concatenate([W, np.eye(L), np.zeros((T, L))])
    low = np.concatenate([np.eye(D), np.zeros((L + T, D))])
    want = top @ top.T + S1**2 * middle @ middle.T + SIGMA**2 * low @ low.T
    error = np.sqrt((np.outer(np.diag(want), np.diag(want)) + want**2) / len(found))
    assert (abs(found.T @ found / len(found) - want) < 5 * error).all()


@pytest.fixture(scope="module")
def curves():
    return measured(
        curve.rate_distortion_curve,
        diagonal(0.2),
        **CHAINS | {"temperatures": 200},
        largest_beta=4.0,
        draws=2000,
    )


class TestRateAndDistortion:
    """q_beta is Gaussian with the precision I + beta W'W / sigma^2."""

    def test_the_curve_is_the_closed_form(self, curves):
        betas = curve.curve_schedule(200, 4.0)
        at = curve.curve_points(betas)
        assert 1.0 in betas[1:][at] and betas[-1] == np.float32(4)
        high = betas[1:][at] > 0.1
        want = np.array([self.exact(b) for b in np.float64(betas[1:][at][high])])
        for name, exact in (("rate", want[:, 0]), ("distortion", want[:, 1])):
            difference = (curves[name][:, high] - exact.T).mean(0)
            # Both go from 1 to 9 nats; 64 chains know E[log p(x | z)], whose standard
            # deviation is 2, to 0.25 nats, and the mean over 8 examples to a third.
            assert (abs(difference) < 0.35).all()
            assert abs(difference.mean()) < 0.1

    def exact(self, beta):
        gain, covariance = conditional_of(np.eye(L), W, SIGMA / np.sqrt(beta))
        mean = (X - B) @ gain.T
        logs = np.linalg.slogdet(covariance)[1]
        rate = 0.5 * (np.trace(covariance) + (mean**2).sum(1) - L - logs)
        square = ((X - B - mean @ W.T) ** 2).sum(1) + np.trace(W @ covariance @ W.T)
        return rate, square / (2 * SIGMA**2) + D * np.log(SIGMA * np.sqrt(2 * np.pi))

    def test_the_encoder_has_its_own_point_above_the_curve(self, curves):
        """R + D is minus the ELBO, which is log p(x) - KL(q || p(z | x))."""
        both = curves["encoder_rate"] + curves["encoder_distortion"]
        want = divergence(BEST, 0.2) - EXACT["one"]
        np.testing.assert_allclose(both, want, atol=0.5)
        assert_close_in_mean(both, want)

    def test_at_the_posterior_they_add_up_to_the_likelihood(self, curves):
        betas = curve.curve_schedule(200, 4.0)[1:]
        at = list(betas[curve.curve_points(np.append(0, betas))]).index(1)
        both = curves["rate"][:, at] + curves["distortion"][:, at]
        np.testing.assert_allclose(both, -EXACT["one"], atol=0.5)
        # The bias of log Z, half its variance, makes the rate an upper bound.
        assert -0.05 < (both + EXACT["one"]).mean() < 0.15


@pytest.fixture(scope="module")
def inferred():
    """Gaps of an encoder that is shifted and too narrow."""
    model = diagonal(0.3, 0.1)
    return measured(gaps.inference_gaps, model, samples=2000, draws=16, most=3000)


class TestGaps:
    def test_a_full_covariance_leaves_no_approximation_gap(self, inferred):
        """Its bound is the likelihood, each weight of it alike."""
        np.testing.assert_allclose(inferred["elbo_full"], EXACT["one"], atol=0.02)
        np.testing.assert_allclose(inferred["log_p_full"], EXACT["one"], atol=0.02)
        assert (inferred["ess_full"] > 1900).all()
        assert inferred["plateau_full"].all() and inferred["plateau_diagonal"].all()

    def test_the_diagonal_gap_is_the_least_divergence(self, inferred):
        """KL(q* || p(z | x)) of the best diagonal Gaussian, the same for every x."""
        gap = EXACT["one"] - inferred["elbo_diagonal"]
        want = divergence(BEST)
        assert want > 0.1
        assert_close_in_mean(gap, want, slack=0.02)

    def test_the_amortization_gap_is_the_rest(self, inferred):
        want = divergence(np.eye(L) * 0.1**2, 0.3) - divergence(BEST)
        assert_close_in_mean(inferred["elbo_diagonal"] - inferred["elbo"], want)
        assert want > 1


def test_bounds_rise_with_k_to_the_likelihood():
    """And their distance to it at small spread is what the jackknife says."""
    wider = VAE(Fixed(flow_posterior(GAIN, 2 * POSTERIOR)), ONE.decoder, ONE.prior)
    found = measured(over_k.bounds_over_k, wider, samples=2000)
    assert over_k.counts_up_to(2000) == (
        1,
        2,
        5,
        *(10, 20, 50, 100, 200, 500, 1000),
        2000,
    )
    mean = found["log_p"].mean(0)
    assert (np.diff(mean) > -0.01).all() and mean[1] > mean[0] + 0.05
    elbo = EXACT["one"] - divergence(2 * POSTERIOR)
    assert_close_in_mean(found["log_p"][:, 0], elbo)
    assert (abs(found["log_p"][:, -1] - EXACT["one"]) < 3 * found["error"][:, -1]).all()
    lost = EXACT["one"][:, None] - found["log_p"]
    for k in (20, 50, 100):
        place = over_k.counts_up_to(2000).index(k)
        assert_close_in_mean(found["bias"][:, place], lost[:, place], slack=3e-3)
    assert (found["ess"] <= np.array(over_k.counts_up_to(2000)) * (1 + 1e-5)).all()


def test_the_jackknife_is_that_of_leaving_each_out():
    log_w = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32) * 2
    found = weight_numbers(jnp.asarray(log_w))
    each = np.array([log_mean(np.delete(log_w, i, 0)) for i in range(7)])
    want = log_mean(log_w)
    np.testing.assert_allclose(found.log_p, want, rtol=1e-5)
    np.testing.assert_allclose(found.bias, -6 * (each.mean(0) - want), rtol=1e-3)
    np.testing.assert_allclose(found.error, np.sqrt(6 * each.var(0)), rtol=1e-3)


def test_the_aggregated_posterior_of_apart_examples_is_log_n():
    """Two clusters of equal examples: the index has log N nats, z has log 2 of them."""
    x = np.repeat(X[:2], 4, 0) + np.repeat([[0.0], [50.0]], 4, 0).astype(np.float32)
    batch = {"x": jnp.asarray(x), "row": jnp.arange(8)}
    others = {"x": batch["x"]}
    found = measured(aggregate.index_code_terms, diagonal(), batch, others, draws=200)
    np.testing.assert_allclose(found["information"], np.log(2), atol=1e-5)
    np.testing.assert_allclose(found["information_without"], np.log(7 / 3), atol=1e-5)
    # Each latent tells the clusters apart: q(z_j) has log 2 nats, all but one too many.
    excess = (L - 1) * np.log(2)
    np.testing.assert_allclose(found["total_correlation"], excess, atol=1e-4)
    parts = ("information", "total_correlation", "dimension_kl")
    np.testing.assert_allclose(sum(found[n] for n in parts), found["kl"], atol=1e-3)


def test_the_marginal_divergence_of_a_gaussian_is_its_closed_form():
    """x of the model and its exact posterior: q(z) is the prior, so that all of the KL
    is information, the mutual information of the Gaussian model.
    """
    count = 400
    rng = np.random.default_rng(5)
    z = rng.normal(size=(count, L))
    x = z @ W.T + B + SIGMA * rng.normal(size=(count, D))
    others = {"x": jnp.asarray(x, jnp.float32)}
    batch = others | {"row": jnp.arange(count)}
    found = measured(aggregate.index_code_terms, ONE, batch, others, draws=4)
    want = -0.5 * np.linalg.slogdet(POSTERIOR)[1]
    assert_close_in_mean(found["kl"], want)
    low, high = found["information"].mean(), found["information_without"].mean()
    assert low < want < high < low + 1.5
    assert (found["information"] <= np.log(count)).all()


def test_latents_that_are_no_real_numbers_are_refused():
    def encoder(batch):
        return dist.Bernoulli(logits=batch["x"][:, :L], validate_args=False)

    def prior(batch):
        return dist.Bernoulli(logits=jnp.zeros((len(batch["x"]), L)))

    model = VAE(Fixed(encoder), Fixed(decoder), Fixed(prior))
    with pytest.raises(InputError, match="no real numbers"):
        joint_of(model, {}, BATCH)


def test_a_point_mass_is_refused():
    model = VAE(
        Fixed(lambda b: d.Delta(b["x"][:, :L])), Fixed(decoder), StandardNormal(L)
    )
    with pytest.raises(InputError, match="point mass"):
        joint_of(model, {}, BATCH)
