"""Every likelihood of the menu, and the optimal sigma in particular."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax import distributions as d
from vaejax.configs import LikelihoodName
from vaejax.errors import InputError
from vaejax.inference.terms import observed_log_prob
from vaejax.models.likelihoods import LIKELIHOODS, GaussianOptimal, check_fit

EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.key(0)
SAMPLES, BATCH = 2, 3
PIXEL_WIDTHS = {  # numbers of the network for one grey and for one colour pixel
    "bernoulli": (1, 3),
    "continuous_bernoulli": (1, 3),
    "gaussian": (1, 3),
    "gaussian_fixed": (1, 3),
    "gaussian_pixel": (2, 6),
    "gaussian_optimal": (1, 3),
    "laplace": (1, 3),
    "student_t": (3, 9),
    "categorical": (256, 768),
    # weights, means and scales of 10 components, and 3 coefficients of colours
    "logistic_mixture": (10 * (1 + 1 + 1), 10 * (1 + 3 + 3 + 3)),
}


def test_the_menu_is_what_the_settings_offer():
    offered = set(LikelihoodName.__args__) - {"auto"}
    assert offered == set(LIKELIHOODS) == set(PIXEL_WIDTHS)


@pytest.mark.parametrize("name", [*LIKELIHOODS])
def test_outputs_are_the_numbers_of_a_pixel(name):
    likelihood = LIKELIHOODS[name]()
    assert (likelihood.outputs(1), likelihood.outputs(3)) == PIXEL_WIDTHS[name]


def cases():
    """Images of 1 and 3 channels for all; tables where real numbers fit."""
    for name, make in LIKELIHOODS.items():
        yield name, (2, 4, 1)
        yield name, (2, 4, 3)
        if "real" in make().fits:
            yield name, (4,)


def setting(name, shape):
    """A likelihood, grey levels with both ends among them, and what a network gives."""
    likelihood = LIKELIHOODS[name]()
    levels = np.random.default_rng(0).integers(0, 256, (BATCH, *shape))
    levels.flat[:2] = 0, 255
    width = likelihood.outputs(shape[-1])
    out = np.random.default_rng(1).normal(0, 3, (SAMPLES, BATCH, *shape[:-1], width))
    x = jnp.asarray(levels / 255, jnp.float32)
    return likelihood, {"x": x}, jnp.asarray(out, jnp.float32)


@pytest.mark.parametrize(("name", "shape"), list(cases()))
def test_log_prob_is_elementwise(name, shape):
    """One number for each entry (each pixel of a joint density), for every sample."""
    likelihood, batch, out = setting(name, shape)

    def evaluate(key):
        px, _ = likelihood.init_with_output(key, out, batch)
        return px.log_prob(batch["x"][None]), px.mean

    log_prob, mean = jax.eval_shape(evaluate, KEY)
    pixels = shape[:-1] if name == "logistic_mixture" else shape
    assert log_prob.shape == (SAMPLES, BATCH, *pixels)
    assert mean.shape == (SAMPLES, BATCH, *shape)


@pytest.mark.parametrize("name", [*LIKELIHOODS])
def test_values_and_gradients_are_finite(name):
    likelihood, batch, out = setting(name, (2, 4, 3))

    def total(state, out):
        px = likelihood.apply(state, out, batch)
        log_prob = px.log_prob(batch["x"][None])
        return log_prob.sum(), (log_prob, px.mean)

    @jax.jit
    def evaluate(key):
        state = likelihood.init(key, out, batch)
        return jax.grad(total, argnums=(0, 1), has_aux=True)(state, out)

    gradients, (log_prob, mean) = evaluate(KEY)
    assert np.isfinite(log_prob).all() and np.isfinite(mean).all()
    for gradient in jax.tree.leaves(gradients):
        assert np.isfinite(gradient).all()
    if "real" not in likelihood.fits:
        assert (np.asarray(mean) >= 0).all() and (np.asarray(mean) <= 1).all()
    if likelihood.discrete:
        assert (np.asarray(log_prob) <= 0).all()  # probabilities


def test_an_entry_depends_on_its_own_output_only():
    """The columns of `out` are read entry by entry, whatever their number."""
    for name in ("gaussian_pixel", "student_t", "categorical"):
        likelihood = LIKELIHOODS[name]()
        shape, batch = (1, 1, 2, 3), {"x": jnp.full((1, 2, 3), 0.2)}
        width = likelihood.outputs(3) // 3
        out = jax.random.normal(KEY, (*shape[:-1], 3 * width))

        def entry(out, likelihood=likelihood, batch=batch):
            return likelihood.apply({}, out, batch).log_prob(batch["x"][None])

        jacobian = jax.jit(jax.jacrev(entry))(out)[0, 0, :, :, 0, 0]
        used = np.asarray(jacobian != 0)  # [row, channel, row, output]
        for row in range(2):
            assert not used[row, :, 1 - row].any()
            # each of the row's outputs serves one channel, and each channel has some
            assert (used[row, :, row].sum(0) <= 1).all()
            assert used[row, :, row].any(-1).all()


def test_parameters_of_student_t_are_location_scale_and_freedom():
    out = jnp.array([[[0.3, -1.0, 2.0]]])
    px = LIKELIHOODS["student_t"]().apply({}, out, {"x": jnp.zeros((1, 1))})
    softplus = np.log1p(np.exp([-1.0, 2.0]))
    assert px.loc.item() == pytest.approx(0.3)
    assert px.scale.item() == pytest.approx(1e-3 + softplus[0], rel=4 * EPS)
    assert px.df.item() == pytest.approx(3 + softplus[1], rel=4 * EPS)


def test_sigma_of_a_pixel_is_floored():
    out = jnp.array([[[0.3, -100.0]]])
    px = LIKELIHOODS["gaussian_pixel"]().apply({}, out, {"x": jnp.zeros((1, 1))})
    assert (px.loc.item(), px.scale.item()) == pytest.approx((0.3, 1e-3))


FITS = {
    "binary": {"bernoulli", "continuous_bernoulli"},
    "grey": {"bernoulli", "continuous_bernoulli", "categorical", "logistic_mixture"},
    "dequantized": {"bernoulli", "continuous_bernoulli"},
    "real": set(),
}
EVERYWHERE = {
    "gaussian",
    "gaussian_fixed",
    "gaussian_pixel",
    "gaussian_optimal",
    "laplace",
    "student_t",
}


@pytest.mark.parametrize("values", FITS)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_fits_its_values_or_names_those_that_do(name, values):
    fitting = FITS[values] | EVERYWHERE
    if name in fitting:
        check_fit(LIKELIHOODS[name](), values)
        return
    with pytest.raises(InputError) as error:
        check_fit(LIKELIHOODS[name](), values)
    said, choices = str(error.value).split(": ")
    assert type(LIKELIHOODS[name]()).__name__ in said and values in said
    listed = choices.removeprefix("choose --likelihood of ").split(", ")
    assert set(listed) == fitting


def test_discrete_likelihoods_give_probabilities():
    discrete = {name for name, make in LIKELIHOODS.items() if make().discrete}
    assert discrete == {"bernoulli", "categorical", "logistic_mixture"}


class TestGaussianOptimal:
    """sigma* is the root mean square error of the batch [Rybkin et al. 2021, eq. 4]."""

    x = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 4)), jnp.float32)
    out = jax.random.normal(KEY, (SAMPLES, BATCH, 4))
    error = float(np.square(np.asarray(x)[None] - np.asarray(out)).mean())

    def train(self, out, batch, variance=2.0, mass=1.0):
        statistics = {"variance": jnp.float32(variance), "mass": jnp.float32(mass)}
        state = {"batch_stats": statistics}
        return GaussianOptimal().apply(state, out, batch, mutable=["batch_stats"])

    def test_sigma_in_training_is_the_error_of_the_batch(self):
        px, _ = self.train(self.out, {"x": self.x})
        np.testing.assert_allclose(px.scale**2, self.error, rtol=30 * EPS)

    def test_sigma_in_training_maximizes_the_likelihood(self):
        px, _ = self.train(self.out, {"x": self.x})

        def log_px(sigma):
            normal = d.Normal(self.out, sigma)
            return float(observed_log_prob(normal, self.x[None]).mean())

        best = log_px(px.scale)
        assert best > max(log_px(px.scale * 1.05), log_px(px.scale / 1.05))

    @pytest.mark.parametrize("masked", [False, True])
    def test_gradient_is_that_of_sigma_held_fixed(self, masked):
        """Envelope theorem: where sigma is optimal, d loss / d sigma = 0."""
        mask = jnp.array([[1, 1, 0, 1]] * BATCH) if masked else jnp.ones((BATCH, 4))
        batch = {"x": self.x, "mask": mask}
        fixed, _ = self.train(self.out, batch)

        def loss(out, sigma=None):
            px = self.train(out, batch)[0] if sigma is None else d.Normal(out, sigma)
            return -observed_log_prob(px, self.x[None], mask[None]).mean()

        free, held = jax.grad(loss)(self.out), jax.grad(loss)(self.out, fixed.scale)
        # what cancels in d loss / d sigma are sums over 24 entries
        np.testing.assert_allclose(free, held, atol=100 * EPS)
        assert np.abs(held).max() > 0.1

    def test_masked_error_counts_observed_entries_only(self):
        mask = np.random.default_rng(1).integers(0, 2, (BATCH, 4))
        px, _ = self.train(self.out, {"x": self.x, "mask": jnp.asarray(mask)})
        square = np.square(np.asarray(self.x) - np.asarray(self.out))
        want = (square * mask).sum() / (SAMPLES * mask.sum())
        np.testing.assert_allclose(px.scale**2, want, rtol=30 * EPS)

    def test_nothing_observed_gives_the_floor(self):
        px, _ = self.train(self.out, {"x": self.x, "mask": jnp.zeros((BATCH, 4))})
        np.testing.assert_allclose(px.scale**2, GaussianOptimal().floor, rtol=4 * EPS)

    def test_running_variance_of_an_old_run_moves_by_one_minus_the_momentum(self):
        _, state = self.train(self.out, {"x": self.x}, variance=2.0)
        want = 0.99 * 2.0 + 0.01 * self.error
        assert float(state["batch_stats"]["variance"]) == pytest.approx(
            want, rel=10 * EPS
        )

    @pytest.mark.parametrize("batches", [1, 2, 30])
    def test_running_variance_is_the_weighted_mean_of_the_errors(self, batches):
        """Weights .99^k by age k, over their sum: the start at 1 has none."""
        errors = np.random.default_rng(batches).uniform(0.01, 0.1, batches)
        likelihood, out = GaussianOptimal(), jnp.zeros((1, 1, 1))
        state = likelihood.init(KEY, out, {"x": out[0]})
        for error in errors:
            batch = {"x": jnp.full((1, 1), np.sqrt(error))}
            _, state = likelihood.apply(state, out, batch, mutable=["batch_stats"])
        weights = 0.99 ** np.arange(batches)[::-1]
        want = weights @ errors / weights.sum()
        px: Any = likelihood.apply(state, out, {"x": out[0]})
        # each batch rounds the average, its mass and their quotient
        np.testing.assert_allclose(px.scale**2, want, rtol=8 * (batches + 1) * EPS)

    def test_initializing_leaves_the_running_variance(self):
        state = GaussianOptimal().init(KEY, self.out, {"x": self.x})
        assert float(state["batch_stats"]["variance"]) == 1.0
        assert float(state["batch_stats"]["mass"]) == 0.0

    def test_evaluation_does_not_look_at_the_targets(self):
        state = {"batch_stats": {"variance": jnp.float32(2.0)}}
        for x in (self.x, 100 * self.x):
            px = GaussianOptimal().apply(state, self.out, {"x": x})
            np.testing.assert_allclose(px.scale, np.sqrt(2), rtol=4 * EPS)
