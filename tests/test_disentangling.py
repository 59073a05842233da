"""Total correlation, moments and their critics against enumeration and closed forms.

EPS is the rounding of one float32 operation.
"""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from tests.test_inference import EPS, KEY, WRONG, LinearGaussian, data, variables
from vaejax import objectives, presets
from vaejax.distributions import Delta, Normal
from vaejax.errors import InputError
from vaejax.inference.latents import LatentTerm
from vaejax.models import Critique, LatentModel
from vaejax.objectives import total_correlation as tc
from vaejax.objectives.covariance import covariance_of_latents

MODEL = LinearGaussian()
RNG = np.random.default_rng(0)
N, D = 5, 2
MEANS, SCALES = RNG.normal(size=(N, D)), RNG.uniform(0.3, 1.0, (N, D))
Z = MEANS + SCALES * RNG.normal(size=(N, D))
# float64 densities of every draw under every posterior: [draw, posterior, latent]
DENSITY = scipy.stats.norm(MEANS[None], SCALES[None]).pdf(Z[:, None])


def value(objective, p=WRONG, **hyper):
    run = nn.apply(partial(objective, **hyper), MODEL)
    return jax.jit(run)(variables(p), data(p), KEY)


def term_of(rows):
    """Draws and posteriors of these examples."""
    q = Normal(*(jnp.asarray(a[list(rows)], jnp.float32) for a in (MEANS, SCALES)))
    z = jnp.asarray(Z[list(rows)], jnp.float32)[None]
    none = jnp.zeros(z.shape[:2])
    return LatentTerm(z, q, q, none, none, none[..., None])


@partial(jax.jit, static_argnums=(1, 2))
def estimate(term, estimator, examples):
    weights = tc.ESTIMATORS[estimator](term.z.shape[1], examples)
    return tc.aggregate(term, weights)


class TestEstimators:
    """All batches of three of five examples, whose exact aggregate is a finite sum."""

    def mean_over_batches(self, estimator, size=3):
        """The mean of q(z_n) over all ordered batches that begin with n, `[N]`."""
        totals, counts = np.zeros(N), np.zeros(N)
        for rows in itertools.permutations(range(N), size):
            found = estimate(term_of(rows), estimator, N)
            totals[rows[0]] += np.exp(float(found.joint[0, 0]))
            counts[rows[0]] += 1
        return totals / counts

    def test_stratified_is_unbiased_for_the_aggregate(self):
        """Its mean is q(z) = 1/N sum_n q(z | x_n), to rounding."""
        exact = DENSITY.prod(-1).mean(1)
        found = self.mean_over_batches("stratified")
        np.testing.assert_allclose(found, exact, rtol=100 * EPS)

    def test_weighted_is_biased_as_theory_says(self):
        """1 / (N M) [q(z | x_n) + (M - 1) mean of the others], which is below q(z)."""
        size, own = 3, np.diag(DENSITY.prod(-1))
        others = (DENSITY.prod(-1).sum(1) - own) / (N - 1)
        want = (own + (size - 1) * others) / (N * size)
        found = self.mean_over_batches("weighted", size)
        np.testing.assert_allclose(found, want, rtol=100 * EPS)
        assert (found < DENSITY.prod(-1).mean(1)).all()

    def test_a_whole_data_set_is_exact_up_to_the_known_constant(self):
        """A batch of all N examples has the weighted estimate log q(z) - log N."""
        found = estimate(term_of(range(N)), "weighted", N)
        joint = np.log(DENSITY.prod(-1).mean(1)) - np.log(N)
        product = np.log(DENSITY.mean(1)).sum(-1) - D * np.log(N)
        np.testing.assert_allclose(found.joint[0], joint, rtol=100 * EPS)
        np.testing.assert_allclose(found.product[0], product, rtol=100 * EPS)

    @pytest.mark.parametrize("estimator", tc.ESTIMATORS)
    def test_weights_of_a_row_sum_to_what_they_estimate(self, estimator):
        total = np.exp(tc.ESTIMATORS[estimator](4, 50)).sum(1)
        want = {"weighted": 1 / 50, "stratified": 1.0}[estimator]
        np.testing.assert_allclose(total, want, rtol=20 * EPS)

    def test_a_factorized_aggregate_has_no_total_correlation(self):
        """Means on a grid and equal scales: q(z) is a product at every z."""
        grid = np.array(list(itertools.product([-1.0, 0.5, 2.0], [-2.0, 1.0])))
        q = Normal(jnp.asarray(grid, jnp.float32), jnp.full(grid.shape, 0.7))
        z = q.sample(KEY)[None]
        none = jnp.zeros(z.shape[:2])
        found = estimate(LatentTerm(z, q, q, none, none, none), "weighted", len(grid))
        constant = (D - 1) * np.log(len(grid))
        np.testing.assert_allclose(found.joint - found.product, constant, rtol=1e-5)

    def test_a_joint_gaussian_is_weighed_as_the_same_elementwise_one(self):
        import numpyro.distributions as dist

        term = term_of(range(N))
        factor = term.q.scale[..., None] * jnp.eye(D)[None]
        q = dist.MultivariateNormal(term.q.loc, scale_tril=factor, validate_args=False)
        one = estimate(term, "weighted", 9)
        other = estimate(term._replace(q=q), "weighted", 9)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=100 * EPS), one, other)

    @pytest.mark.parametrize("name", ["beta_tcvae", "dip_vae", "factor_vae"])
    def test_batches_of_one_have_no_pairs(self, name):
        with pytest.raises(
            InputError, match="--batch-size is 1: it must be at least 2"
        ):
            presets.PRESETS[name](dataset="digits", batch_size=1)


class TestDecomposedElbo:
    hyper = {"examples": 100}

    @pytest.mark.parametrize("estimator", tc.ESTIMATORS)
    def test_the_parts_add_up_to_the_kl(self, estimator):
        _, terms = value(objectives.decomposed_elbo, estimator=estimator, **self.hyper)
        parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
        total = sum(float(terms[name]) for name in parts)
        assert total == pytest.approx(float(terms["kl"]), abs=1e-4)

    def test_weights_of_one_are_the_vae(self):
        """Up to the order of sums: no rounding of the constants stays behind."""
        loss, terms = value(objectives.decomposed_elbo, **self.hyper)
        want, plain = value(objectives.elbo)
        np.testing.assert_allclose(loss, want, rtol=2 * EPS)
        np.testing.assert_allclose(terms["rate"], plain["rate"], rtol=4 * EPS)

    def test_the_rate_is_the_weighted_sum_of_the_parts(self):
        weights = {"alpha": 0.5, "beta": 6.0, "gamma": 2.0}
        loss, terms = value(objectives.decomposed_elbo, **self.hyper, **weights)
        parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
        want = np.dot([float(terms[name]) for name in parts], list(weights.values()))
        assert float(terms["rate"]) == pytest.approx(want, rel=1e-5)
        assert loss == pytest.approx(float(terms["rate"] + terms["distortion"]))

    def test_equal_weights_are_a_beta_vae(self):
        """The constants of the estimator cancel in the sum."""
        four = dict.fromkeys(("alpha", "beta", "gamma"), 4.0)
        loss, _ = value(objectives.decomposed_elbo, **self.hyper, **four)
        want, _ = value(objectives.elbo, beta=4.0)
        assert float(loss) == pytest.approx(float(want), rel=1e-5)


class Quadratic(nn.Module):
    """A critic whose score is quadratic, as the log ratio of two Gaussians is."""

    @nn.compact
    def __call__(self, z, batch):
        squares = jnp.stack([z[:, 0] ** 2, z[:, 1] ** 2, z[:, 0] * z[:, 1]], -1)
        score = nn.Dense(1, kernel_init=nn.initializers.zeros)(squares)[:, 0]
        return Critique(score, (z,))


class Copied(LatentModel):
    """Latents that are x itself, and a critic of them."""

    critic: nn.Module

    def posterior(self, batch):
        return Delta(batch["x"])

    def prior(self, batch):
        return Normal(jnp.zeros_like(batch["x"]), jnp.ones_like(batch["x"]))

    def likelihood(self, z, batch):
        return Normal(z, jnp.ones_like(z))


JUDGED = partial(
    objectives.adversarial.critic,
    loss=objectives.adversarial.LOSSES["logistic"],
    subjects=objectives.permuted_latents,
)


class TestFactorVae:
    def correlated(self, rho, count):
        z = np.random.default_rng(3).normal(size=(count, 2))
        z[:, 1] = rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
        return {"x": jnp.asarray(z, jnp.float32)}

    def test_permutations_keep_each_latent_and_break_their_ties(self):
        batch = self.correlated(0.9, 4000)
        permuted = nn.apply(objectives.permuted_latents, Copied(Quadratic()))
        shown = permuted({}, batch, KEY)
        real, fake = np.asarray(shown.real), np.asarray(shown.fakes["permuted"])
        np.testing.assert_array_equal(real, batch["x"])
        np.testing.assert_array_equal(np.sort(real, 0), np.sort(fake, 0))
        # The correlation of independent draws has the standard error 1 / sqrt(n).
        assert abs(np.corrcoef(fake.T)[0, 1]) < 5 / np.sqrt(4000)
        assert abs(np.corrcoef(fake[:, 0], real[:, 0])[0, 1]) < 5 / np.sqrt(4000)

    def test_a_trained_critic_tells_the_total_correlation_of_a_gaussian(self):
        """E[score] = -1/2 log(1 - rho^2) [Kim & Mnih 2018, eq. 3].

        The log ratio of the density to the product of its marginals, N(0, 1) each, is
        -1/2 log(1 - rho^2) - (rho^2 (a^2 + b^2) - 2 rho a b) / (2 (1 - rho^2)).
        """
        rho, model = 0.7, Copied(Quadratic())
        batch, moves = self.correlated(rho, 10_000), optax.adam(0.1)
        params = nn.init(JUDGED, model)(KEY, batch, KEY)

        def step(carry, key):
            params, state = carry
            judged = nn.apply(JUDGED, model)
            slope, _ = jax.grad(judged, has_aux=True)(params, batch, key)
            updates, state = moves.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(KEY, 100)
        (params, _), _ = jax.lax.scan(step, (params, moves.init(params)), keys)
        dense = params["params"]["critic"]["Dense_0"]
        exact = -np.log(1 - rho**2) / 2
        square, cross = -(rho**2), 2 * rho
        want = np.array([square, square, cross]) / (2 * (1 - rho**2))
        # Estimates of 10,000 draws have errors of about .01 in each coefficient.
        np.testing.assert_allclose(dense["kernel"][:, 0], want, atol=0.05)
        np.testing.assert_allclose(dense["bias"], exact, atol=0.05)
        score = nn.apply(lambda m: m.critic(batch["x"], batch).score, model)(params)
        assert float(score.mean()) == pytest.approx(exact, abs=0.03)

    def with_critic(self):
        experiment = presets.factor_vae(
            dataset="digits", hidden=(8,), latents=2, critic_hidden=(8,), batch_size=16
        )
        player = experiment.players["vae"]
        batch = {"x": jnp.asarray(RNG.uniform(size=(6, 8, 8, 1)), jnp.float32)}
        init = jax.jit(nn.init(player.objective, experiment.model))
        return experiment.model, init(KEY, batch, KEY), batch

    def test_loss_is_the_elbo_and_the_weighted_correlation(self):
        model, params, batch = self.with_critic()

        @jax.jit
        def run(gamma):
            objective = partial(objectives.factorized, gamma=gamma)
            return nn.apply(objective, model)(params, batch, KEY)

        without, _ = run(0.0)
        want, _ = jax.jit(nn.apply(objectives.elbo, model))(params, batch, KEY)
        np.testing.assert_allclose(without, want, rtol=4 * EPS)
        loss, terms = run(7.0)
        total = terms["rate"] + terms["distortion"] + terms["penalty"]
        np.testing.assert_allclose(loss, total, rtol=4 * EPS)
        correlation = 7 * float(terms["total_correlation"])
        assert float(terms["penalty"]) == pytest.approx(correlation, rel=1e-6)
        assert float(loss - without) == pytest.approx(correlation, abs=1e-4)


class TestDipVae:
    """Penalties against moments of float64, computed by NumPy."""

    def moments(self, kind):
        x = np.asarray(data(WRONG)["x"], float)
        means = (x - WRONG["b"]) @ WRONG["A"].T
        found = np.cov(means.T, bias=True)
        return found + (kind == "ii") * np.diag(np.exp(2 * WRONG["log_s"]))

    @pytest.mark.parametrize("kind", ["i", "ii"])
    def test_the_penalty_is_that_of_the_moments(self, kind):
        weights = {"off_diagonal": 3.0, "diagonal": 20.0}
        loss, terms = value(objectives.disentangled_prior, kind=kind, **weights)
        found = self.moments(kind)
        off = np.square(found - np.diag(np.diag(found))).sum()
        want = 3 * off + 20 * np.square(np.diag(found) - 1).sum()
        assert off > 1e-3  # else nothing is compared
        np.testing.assert_allclose(terms["penalty"], want, rtol=1e-4)
        total = terms["rate"] + terms["distortion"] + terms["penalty"]
        np.testing.assert_allclose(loss, total, rtol=4 * EPS)

    def test_without_weights_it_is_a_beta_vae(self):
        none = {"off_diagonal": 0.0, "diagonal": 0.0, "beta": 4.0}
        loss, _ = value(objectives.disentangled_prior, **none)
        want, _ = value(objectives.elbo, beta=4.0)
        np.testing.assert_allclose(loss, want, rtol=4 * EPS)

    def test_a_full_covariance_counts_off_its_diagonal_too(self):
        """E[Cov(z | x)] + Cov(E[z | x]), by the law of total covariance."""
        import numpyro.distributions as dist

        factor = np.tril(RNG.normal(size=(N, D, D))) + np.eye(D)
        q = dist.MultivariateNormal(
            jnp.asarray(MEANS, jnp.float32),
            scale_tril=jnp.asarray(factor, jnp.float32),
            validate_args=False,
        )
        want = (factor @ factor.transpose(0, 2, 1)).mean(0)
        want += np.cov(MEANS.T, bias=True)
        np.testing.assert_allclose(covariance_of_latents(q), want, rtol=1e-5)


@pytest.fixture(scope="module")
def game():
    made = presets.joint_vae(
        dataset="digits", hidden=(8,), latents=2, category_values=4
    )
    batch = {"x": jnp.asarray(RNG.uniform(size=(6, 8, 8, 1)), jnp.float32)}
    model = made.model
    params = jax.jit(nn.init(objectives.elbo, model))(KEY, batch, KEY)

    @partial(jax.jit, static_argnums=0)
    def run(objective, hyper):
        return nn.apply(partial(objective, **hyper), model)(params, batch, KEY)

    return model, params, batch, run


class TestJointVae:
    def test_rate_is_the_distance_of_each_block_to_its_target(self, game):
        *_, run = game
        hyper = {"gamma": 3.0, "target_z": 2.0, "target_c": 0.01}
        loss, terms = run(objectives.block_capacity, hyper)
        away = abs(float(terms["kl_z"]) - 2) + abs(float(terms["kl_c"]) - 0.01)
        assert float(terms["rate"]) == pytest.approx(3 * away, rel=1e-5)
        total = terms["rate"] + terms["distortion"]
        np.testing.assert_allclose(loss, total, rtol=4 * EPS)
        both = terms["kl_z"] + terms["kl_c"]
        np.testing.assert_allclose(terms["kl"], both, rtol=1e-5)

    def test_targets_of_zero_are_a_vae(self, game):
        """Both KLs have formulas, so that neither is below 0."""
        *_, run = game
        none = {"gamma": 1.0, "target_z": 0.0, "target_c": 0.0}
        loss, _ = run(objectives.block_capacity, none)
        want, _ = run(objectives.elbo, {})
        np.testing.assert_allclose(loss, want, rtol=4 * EPS)

    def test_the_encoding_is_both_blocks_side_by_side(self, game):
        """Its density is the product, its draws end with one-hot categories."""
        model, params, batch, _ = game
        q = model.apply(params, batch, method="encode")
        draws = q.sample(KEY, (500,))
        assert draws.shape == (500, 6, 6)
        assert set(np.unique(draws[..., 2:])) == {0.0, 1.0}
        np.testing.assert_array_equal(draws[..., 2:].sum(-1), 1)
        gaussian, categories = q.parts
        normal = scipy.stats.norm(gaussian.loc, gaussian.scale)
        log_normal = normal.logpdf(draws[0][:, :2])
        share = np.asarray(categories.mean, float)
        want = log_normal.sum(-1) + np.log((share * draws[0][:, 2:]).sum(-1))
        np.testing.assert_allclose(q.log_prob(draws[0]), want, rtol=1e-4)
        # The mean of 500 draws has an error of at most 1 / sqrt(500) of a deviation.
        error = np.sqrt(np.asarray(q.variance) / 500)
        assert (abs(draws.mean(0) - q.mean) < 5 * error + 1e-6).all()

    def test_categories_hold_no_more_than_their_logarithm(self):
        made = presets.joint_vae(
            dataset="digits", hidden=(8,), category_values=4, category_capacity=9.0
        )
        at = made.players["vae"].schedules["target_c"]
        assert float(at(0)) == 0.0
        assert float(at(10**6)) == pytest.approx(np.log(4))
