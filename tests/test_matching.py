"""Discrepancies of aggregate posteriors and priors against closed forms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from tests.test_disentangling import value
from tests.test_inference import EPS
from vaejax import objectives, presets
from vaejax.errors import InputError
from vaejax.objectives.mmd import KERNELS, Kernel, squared_discrepancy

SCALES = (0.3, 2.0)
SHIFT, WIDTH, POINTS, REPEATS = 0.7, 1.4, 12, 5_000


def expected_kernel(name, mean, variance):
    """E k(r^2), r ~ N(mean, variance) of one latent, by quadrature."""

    def integrand(r):
        values = [float(KERNELS[name](r**2, 2 * s)) for s in SCALES]
        return sum(values) * stats.norm(mean, np.sqrt(variance)).pdf(r)

    return integrate.quad(integrand, mean - 30, mean + 30, limit=200)[0]


def gaussian_kernel(mean, variance):
    """The same of rbf as a formula: a Gaussian of a Gaussian."""
    widths = 2 * np.array(SCALES)
    spread = widths + 2 * variance
    return np.sum(np.sqrt(widths / spread) * np.exp(-(mean**2) / spread))


def exact(expected):
    """MMD^2 of N(SHIFT, WIDTH^2) and N(0, 1), of an expected kernel."""
    between = expected(SHIFT, WIDTH**2 + 1)
    return expected(0.0, 2 * WIDTH**2) + expected(0.0, 2.0) - 2 * between


@pytest.mark.parametrize("name", KERNELS)
def test_the_estimate_is_unbiased(name):
    """Its mean over many samples of 12 points is the exact MMD^2, within 5 errors."""
    want = exact(partial(expected_kernel, name))
    if name == "rbf":
        assert want == pytest.approx(exact(gaussian_kernel), rel=1e-6)
    rng = np.random.default_rng(0)
    a = SHIFT + WIDTH * rng.normal(size=(REPEATS, POINTS, 1))
    b = rng.normal(size=(REPEATS, POINTS, 1))
    estimate = partial(squared_discrepancy, kernel=Kernel(name, SCALES))
    found = jax.jit(jax.vmap(estimate))(jnp.float32(a), jnp.float32(b))
    error = np.std(found) / np.sqrt(REPEATS)
    assert abs(np.mean(found) - want) < 5 * error
    assert want > 20 * error  # else nothing is compared
    # That of the same distribution has the mean 0, so that single ones are negative.
    same = jax.jit(jax.vmap(estimate))(jnp.float32(b), jnp.float32(b[::-1]))
    assert abs(np.mean(same)) < 5 * np.std(same) / np.sqrt(REPEATS)
    assert np.min(same) < 0


@pytest.mark.parametrize("name", KERNELS)
def test_the_estimate_is_the_sum_over_pairs(name):
    """[Gretton et al. 2012, eq. 3], written out in float64."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(5, 3)), rng.normal(1.0, 2.0, (4, 3))

    def k(x, y):
        squared = ((x - y) ** 2).sum()
        widths = [2 * 3 * s for s in SCALES]
        if name == "imq":
            return sum(w / (w + squared) for w in widths)
        return sum(np.exp(-squared / w) for w in widths)

    within = [
        np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
        for x in (a, b)
    ]
    between = np.mean([k(x, y) for x in a for y in b])
    found = squared_discrepancy(jnp.float32(a), jnp.float32(b), Kernel(name, SCALES))
    assert float(found) == pytest.approx(sum(within) - 2 * between, abs=1e-5)


class TestInfoVae:
    def test_without_strength_it_is_a_vae(self):
        loss, _ = value(objectives.info, alpha=0.0, strength=1.0)
        want, _ = value(objectives.elbo)
        np.testing.assert_allclose(loss, want, rtol=2 * EPS)

    @pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
    def test_loss_is_the_sum_of_its_logged_terms(self, alpha):
        loss, terms = value(objectives.info, alpha=alpha, strength=50.0)
        total = terms["rate"] + terms["distortion"] + terms["penalty"]
        np.testing.assert_allclose(loss, total, rtol=4 * EPS)
        want = (alpha + 49) * float(terms["mmd"])
        assert float(terms["penalty"]) == pytest.approx(want, rel=1e-5)
        assert float(terms["rate"]) == pytest.approx(
            (1 - alpha) * float(terms["kl"]), rel=1e-5
        )


class TestWae:
    def test_loss_is_the_sum_of_its_logged_terms(self):
        loss, terms = value(objectives.wasserstein, strength=50.0)
        np.testing.assert_allclose(
            loss, terms["distortion"] + terms["penalty"], rtol=4 * EPS
        )
        assert float(terms["penalty"]) == pytest.approx(50 * float(terms["mmd"]))

    def test_the_cost_is_the_squared_error(self):
        """The cost is the preset's likelihood, up to its constant D / 2 log(pi)."""
        made = presets.wae(dataset="digits", hidden=(8,), latents=2)
        batch = {"x": jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))}
        key = jax.random.key(0)

        def costs(model, batch, key):
            i = model.infer(batch, key[None])
            return -i.log_px[0], jnp.square(i.px.mean[0] - batch["x"]).sum((1, 2, 3))

        run = jax.jit(nn.init_with_output(costs, made.model))
        (found, squared), _ = run(key, batch, key)
        np.testing.assert_allclose(found - 32 * np.log(np.pi), squared, atol=1e-4)

    def test_settings_of_the_other_match_are_refused(self):
        with pytest.raises(InputError, match="are of --match gan: choose it"):
            presets.wae(dataset="digits", critic_hidden=(8,))
        with pytest.raises(InputError, match="are of --match mmd: choose it"):
            presets.wae(dataset="digits", match="gan", kernel="rbf")
        with pytest.raises(InputError, match="--scales is"):
            presets.wae(dataset="digits", scales=(1.0, 0.0))
