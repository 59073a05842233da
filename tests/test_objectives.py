"""Objectives against closed forms, each other, and the papers' own gradients.

EPS is the rounding of one float32 operation. The model of known evidence comes from
test_inference; sampling tests allow 5 standard errors.
"""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tests.test_inference import (
    BATCH,
    EPS,
    EXACT,
    KEY,
    ROUNDING,
    WRONG,
    LinearGaussian,
    assert_mean,
    data,
    gap,
    log_evidence,
    run,
    variables,
)
from vaejax import objectives
from vaejax.distributions import Bernoulli
from vaejax.inference.terms import infer, log_mean_exp
from vaejax.objectives.elbo import floored_kl, gaussian_terms

MODEL = LinearGaussian()


@cache
def of_samples(objective, samples):
    return partial(objective, samples=samples)


def loss_and_terms(objective, model, state, batch, key, hyper):
    return nn.apply(partial(objective, **hyper), model)(state, batch, key)


compiled = jax.jit(loss_and_terms, static_argnums=(0, 1))
slopes = jax.jit(
    jax.grad(lambda *a: loss_and_terms(*a)[0], argnums=2), static_argnums=(0, 1)
)


def evaluate(objective, p, model=MODEL, samples=None, **hyper):
    """Loss and terms on data of the model `p`."""
    objective = of_samples(objective, samples) if samples else objective
    return compiled(objective, model, variables(p), data(p), KEY, hyper)


def gradient(objective, p, model=MODEL, samples=None, **hyper):
    """Of the loss in all parameters."""
    objective = of_samples(objective, samples) if samples else objective
    return slopes(objective, model, variables(p), data(p), KEY, hyper)["params"]


def assert_same_gradient(a, b, scale=1.0):
    """a = scale * b, up to rounding of sums over examples, entries and samples."""
    largest = max(abs(np.asarray(leaf)).max() for leaf in jax.tree.leaves(b))
    assert largest > 0.1  # else nothing is compared
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        tolerance = 100 * EPS * scale * max(largest, 1)
        np.testing.assert_allclose(left, scale * right, atol=tolerance)


OBJECTIVES = {
    "elbo": objectives.elbo,
    "beta": partial(objectives.elbo, beta=4.0),
    "free_bits": partial(objectives.elbo, free_bits=0.8),
    "samples": partial(objectives.elbo, samples=3),
    "capacity": partial(objectives.capacity, gamma=10.0, target=1.0),
    "iwae": partial(objectives.iwae, samples=3),
    "reconstruction": objectives.reconstruction,
}
MONTE_CARLO = LinearGaussian(laplace=True)  # its KL has no closed form


@pytest.mark.parametrize("model", [MODEL, MONTE_CARLO], ids=["kl", "mc"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_equals_the_sum_of_its_logged_terms(name, model):
    """In the units it is logged in: no hidden weight, no other mean."""
    loss, terms = evaluate(OBJECTIVES[name], WRONG, model)
    assert loss.shape == () and loss == terms["loss"]
    if name == "iwae":
        assert loss == -terms["bound"]
    elif name == "reconstruction":
        assert loss == terms["distortion"]
    else:
        total = terms["rate"] + terms["distortion"]
        np.testing.assert_allclose(loss, total, rtol=2 * EPS)
        elbo = -terms["distortion"] - terms["kl"]
        np.testing.assert_allclose(terms["elbo"], elbo, rtol=2 * EPS)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n != "reconstruction"])
def test_logged_kl_is_a_divergence_not_its_negative(name):
    """The popular reference logs -KL. Here: nats, not below 0, the closed form."""
    _, terms = evaluate(OBJECTIVES[name], WRONG)
    x = np.asarray(data(WRONG)["x"], float)
    mean, s = (x - WRONG["b"]) @ WRONG["A"].T, np.exp(WRONG["log_s"])
    kl = (np.square(mean) + s**2 - 1 - 2 * np.log(s)).sum(-1) / 2
    np.testing.assert_allclose(terms["kl"], kl.mean(), rtol=100 * EPS)
    assert terms["kl"] > 0


class TestElbo:
    def test_terms_are_means_over_the_batch_in_nats_per_example(self):
        i = run(variables(WRONG), data(WRONG), KEY, 1)
        _, terms = evaluate(objectives.elbo, WRONG)
        for name, value in (("distortion", -i.log_px), ("kl", i.kl)):
            np.testing.assert_allclose(terms[name], value.mean(), rtol=20 * EPS)

    def test_beta_one_is_the_negative_elbo(self):
        loss, terms = evaluate(objectives.elbo, WRONG, beta=1.0)
        np.testing.assert_allclose(loss, -terms["elbo"], rtol=4 * EPS)

    def test_beta_zero_is_the_reconstruction(self):
        loss, _ = evaluate(objectives.elbo, WRONG, beta=0.0)
        want, _ = evaluate(objectives.reconstruction, WRONG)
        np.testing.assert_allclose(loss, want, rtol=4 * EPS)

    def test_beta_weighs_the_kl_alone(self):
        _, terms = evaluate(objectives.elbo, WRONG)
        loss, heavy = evaluate(objectives.elbo, WRONG, beta=4.0)
        want = terms["distortion"] + 4 * terms["kl"]
        np.testing.assert_allclose(loss, want, rtol=10 * EPS)
        assert heavy["elbo"] == terms["elbo"]  # the bound itself is not reweighted

    def test_expectation_is_evidence_minus_gap(self):
        """E[loss] = -log p(x) + KL(q || p(z | x)), averaged over the batch."""
        exact = gap(WRONG, data(WRONG)["x"]) - log_evidence(WRONG, data(WRONG)["x"])
        one = nn.apply(objectives.elbo, MODEL)
        keys = jax.random.split(KEY, 4000)
        state, batch = variables(WRONG), data(WRONG)
        losses = jax.jit(jax.vmap(lambda key: one(state, batch, key)[0]))(keys)
        assert_mean(losses, exact.mean(), ROUNDING)

    def test_many_samples_are_averaged(self):
        i = run(variables(WRONG), data(WRONG), KEY, 5)
        loss, _ = evaluate(objectives.elbo, WRONG, samples=5)
        want = np.mean(i.kl) - np.mean(i.log_px)
        np.testing.assert_allclose(loss, want, rtol=20 * EPS)


class TestFreeBits:
    """Each latent may carry `nats` for free [Kingma et al. 2016, eq. 15]."""

    parts = jnp.array([[[0.1, 3.0, -0.4], [0.3, 1.0, 0.2]]])  # means 0.2, 2.0, -0.1

    @pytest.mark.parametrize(
        ("nats", "want"), [(0.0, 2.1), (0.1, 2.3), (0.5, 3.0), (3.0, 9.0)]
    )
    def test_sum_of_the_larger_of_floor_and_batch_mean(self, nats, want):
        """nats = 0 keeps a negative Monte Carlo mean: clipping it would be a bias."""
        np.testing.assert_allclose(floored_kl(self.parts, nats), want, rtol=4 * EPS)

    def test_no_gradient_through_a_latent_below_the_floor(self):
        slope = jax.grad(floored_kl)(self.parts, 0.5)
        want = np.broadcast_to([0.0, 0.5, 0.0], self.parts.shape)
        np.testing.assert_array_equal(slope, want)
        plain = jax.grad(floored_kl)(self.parts, 0.0)
        np.testing.assert_array_equal(plain, np.full(self.parts.shape, 0.5))

    def test_floor_is_part_of_the_weighted_rate(self):
        _, terms = evaluate(objectives.elbo, WRONG, beta=2.0, free_bits=100.0)
        assert terms["rate"] == 2 * 2 * 100.0  # beta, two latents
        assert terms["kl"] < 100


class TestCapacity:
    def test_rate_is_the_distance_to_the_target(self):
        """gamma |KL - C|, KL the mean over the batch [Burgess et al. 2018, eq. 8]."""
        between = float(evaluate(objectives.elbo, WRONG)[1]["kl"]) + 0.01
        for target in (0.5, between, 50.0):
            hyper = {"gamma": 10.0, "target": target}
            _, terms = evaluate(objectives.capacity, WRONG, **hyper)
            want = 10 * abs(terms["kl"] - target)
            # gamma times the rounding of the two that are subtracted
            atol = 10 * 2 * EPS * target
            np.testing.assert_allclose(terms["rate"], want, rtol=10 * EPS, atol=atol)

    @pytest.mark.parametrize(("target", "sign"), [(0.5, 1.0), (50.0, -1.0)])
    def test_gradient_lowers_a_kl_above_the_target_and_raises_one_below(
        self, target, sign
    ):
        """d loss = d distortion + gamma sign(KL - C) d KL."""
        gamma = 10.0
        got = gradient(objectives.capacity, WRONG, gamma=gamma, target=target)
        want = gradient(objectives.elbo, WRONG, beta=gamma * sign)
        assert_same_gradient(got, want)


class TestGaussianTerms:
    def test_relations(self):
        beta, sigma = 4.0, np.exp(WRONG["log_sigma"])
        _, terms = evaluate(objectives.elbo, WRONG, beta=beta)
        np.testing.assert_allclose(terms["sigma"], sigma, rtol=4 * EPS)
        np.testing.assert_allclose(terms["implied_sigma"], 2 * sigma, rtol=8 * EPS)
        np.testing.assert_allclose(terms["effective_beta"], 4 * sigma**2, rtol=8 * EPS)

    def test_none_for_other_likelihoods(self):
        i = run(variables(WRONG), data(WRONG), KEY, 1)
        assert gaussian_terms(i._replace(px=Bernoulli(jnp.zeros(3))), 4.0) == {}

    @staticmethod
    def without_sigma(gradients):
        return {n: g for n, g in gradients.items() if n != "log_sigma"}

    def test_beta_is_an_elbo_of_the_implied_sigma(self):
        """grad of the beta-ELBO at sigma = beta * grad of the ELBO at sigma sqrt(beta).

        For all parameters but sigma itself: the normalizing constant is not scaled.
        """
        beta = 4.0
        implied = WRONG | {"log_sigma": WRONG["log_sigma"] + np.log(beta) / 2}
        arguments = objectives.elbo, MODEL
        left, right = (
            slopes(*arguments, variables(p), data(WRONG), KEY, {"beta": b})["params"]
            for p, b in ((WRONG, beta), (implied, 1.0))
        )
        assert_same_gradient(
            self.without_sigma(left), self.without_sigma(right), scale=beta
        )

    def test_effective_beta_weighs_the_kl_beside_half_the_squared_error(self):
        beta = 4.0
        _, terms = evaluate(objectives.elbo, WRONG, beta=beta)
        weight, variance = terms["effective_beta"], terms["sigma"] ** 2

        def loss(state):
            i = nn.apply(infer, MODEL)(state, data(WRONG), KEY)
            square = jnp.square(data(WRONG)["x"][None] - i.px.mean).sum(-1)
            return jnp.mean(square / 2 + weight * i.kl)

        left = gradient(objectives.elbo, WRONG, beta=beta)
        right = jax.jit(jax.grad(loss))(variables(WRONG))["params"]
        assert_same_gradient(
            self.without_sigma(left),
            self.without_sigma(right),
            scale=1 / float(variance),
        )


class TestImportanceWeights:
    def test_log_mean_exp(self):
        log_w = np.random.default_rng(0).normal(0, 3, (7, 4))
        want = np.log(np.exp(log_w).mean(0))
        np.testing.assert_allclose(
            log_mean_exp(jnp.asarray(log_w)), want, rtol=20 * EPS
        )
        far = log_mean_exp(jnp.array([[-1e4], [-1e4]]))  # exp underflows
        np.testing.assert_allclose(far, -1e4, rtol=EPS)

    def test_one_sample_is_the_elbo_of_the_same_draws(self):
        """IWAE_1 = E[log w], exactly: the logarithm of a mean of one."""
        i = run(variables(WRONG), data(WRONG), KEY, 1)
        loss, terms = evaluate(objectives.iwae, WRONG, samples=1)
        np.testing.assert_allclose(loss, -terms["elbo"], rtol=2 * EPS)
        np.testing.assert_allclose(loss, -np.mean(i.log_w), rtol=20 * EPS)

    @pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
    def test_one_sample_is_the_elbo_where_its_kl_is_sampled_too(self, beta):
        loss, _ = evaluate(objectives.iwae, WRONG, MONTE_CARLO, samples=1, beta=beta)
        elbo, _ = evaluate(objectives.elbo, WRONG, MONTE_CARLO, beta=beta)
        np.testing.assert_allclose(loss, elbo, rtol=20 * EPS)

    def test_the_weight_tempers_what_is_trained_on_and_not_the_bound(self):
        """log mean p(x | z) (p(z) / q(z | x))^beta, of the same draws."""
        i = run(variables(WRONG), data(WRONG), KEY, 5)
        log_ratio = np.asarray(i.log_pz, np.float64) - np.asarray(i.log_qz)
        want = np.logaddexp.reduce(np.asarray(i.log_px) + 0.3 * log_ratio, 0)
        loss, terms = evaluate(objectives.iwae, WRONG, samples=5, beta=0.3)
        np.testing.assert_allclose(-loss, np.mean(want - np.log(5)), rtol=20 * EPS)
        bound, _ = evaluate(objectives.iwae, WRONG, samples=5)
        np.testing.assert_allclose(terms["bound"], -bound, rtol=2 * EPS)

    @pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
    def test_tempered_weights_imply_no_sigma(self, beta):
        """They are no bound of the same model with another sigma, as a beta-ELBO is."""
        _, terms = evaluate(objectives.iwae, WRONG, samples=5, beta=beta)
        assert "implied_sigma" not in terms
        assert "effective_beta" not in terms
        assert "sigma" in terms

    @pytest.mark.parametrize("samples", [2, 5, 50])
    def test_bound_is_tighter_than_the_elbo_on_any_draws(self, samples):
        """Jensen: log mean w >= mean log w. The popular reference has it reversed."""
        loss, terms = evaluate(objectives.iwae, WRONG, samples=samples)
        assert loss < -terms["elbo"]

    def test_bound_of_the_exact_posterior_is_the_evidence(self):
        loss, _ = evaluate(objectives.iwae, EXACT, samples=3)
        exact = log_evidence(EXACT, data(EXACT)["x"]).mean()
        np.testing.assert_allclose(-loss, exact, atol=ROUNDING)

    def test_bounds_rise_with_k_towards_the_evidence(self):
        """ELBO = IWAE_1 < IWAE_2 < IWAE_5 < IWAE_50 <= log p(x) [Burda 2016, thm 1].

        100 000 draws of one example are cut into groups of k.
        """
        batch = {"x": data(WRONG)["x"][:1]}
        log_w = run(variables(WRONG), batch, KEY, 100_000).log_w[:, 0]
        log_p, kl = log_evidence(WRONG, batch["x"]), gap(WRONG, batch["x"])[0]
        bounds = [log_mean_exp(log_w.reshape(-1, k).T) for k in (1, 2, 5, 50)]
        mean = np.array([np.mean(b) for b in bounds])
        error = np.array([np.std(b) / np.sqrt(len(b)) for b in bounds])
        assert abs(mean[0] - (log_p - kl)) < 5 * error[0] + ROUNDING
        assert (np.diff(mean) > 5 * np.hypot(error[1:], error[:-1])).all()
        assert mean[-1] < log_p + 5 * error[-1] + ROUNDING

    def test_loss_is_the_mean_bound_of_the_examples(self):
        i = run(variables(WRONG), data(WRONG), KEY, 5)
        loss, _ = evaluate(objectives.iwae, WRONG, samples=5)
        log_w = np.asarray(i.log_w, float)
        want = -np.log(np.exp(log_w).mean(0)).mean()
        np.testing.assert_allclose(loss, want, rtol=20 * EPS)

    def test_gradient_weighs_each_draw_with_its_normalized_weight(self):
        """sum_i w_i / sum_j w_j * grad log w_i [Burda et al. 2016, eq. 14].

        So the best draw counts most; a sign error would make it the worst.
        """
        samples = 5

        def log_w(state):
            i = nn.apply(infer, MODEL)(state, data(WRONG), KEY, samples)
            return i.log_w, i.log_w

        jacobian, values = jax.jit(jax.jacrev(log_w, has_aux=True))(variables(WRONG))
        jacobian, values = jacobian["params"], np.asarray(values, float)
        weights = np.exp(values - values.max(0))
        weights /= weights.sum(0)
        assert weights.max() > 0.5  # far from equal
        want = {
            name: -np.tensordot(weights, np.asarray(j, float), 2) / BATCH
            for name, j in jacobian.items()
        }
        assert_same_gradient(gradient(objectives.iwae, WRONG, samples=samples), want)


def test_unobserved_entries_do_not_count():
    """With a mask the distortion is that of the observed entries."""
    batch = data(WRONG)
    mask = np.random.default_rng(3).integers(0, 2, batch["x"].shape)
    x = jnp.where(mask == 1, batch["x"], 0.0)
    masked = {"x": x, "mask": jnp.asarray(mask)}
    i = run(variables(WRONG), masked, KEY, 1)
    mean, sigma = np.asarray(i.px.mean, float), np.exp(WRONG["log_sigma"])
    log_prob = scipy.stats.norm(mean, sigma).logpdf(np.asarray(x)[None])
    want = (log_prob * mask).sum(-1)
    np.testing.assert_allclose(i.log_px, want, atol=ROUNDING)
