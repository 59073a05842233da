"""Rectified flows: their paths, densities and training against closed forms."""

from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import vaejax
from vaejax import InputError, objectives, parallel, plots, presets
from vaejax.apply.query import draw_latents
from vaejax.inference.ode import OdePath, integrate, ode_density
from vaejax.metrics import ode_likelihood
from vaejax.models import Label, RectifiedFlow
from vaejax.nn.velocity import VelocityMLP
from vaejax.objectives.flow_matching import (
    logit_normal_times,
    velocity_errors,
    with_null_labels,
)
from vaejax.presets.signature import tiny_settings
from vaejax.training.loop import first_state

from .noise import scattered

KEY = jax.random.key(0)
EPS = float(np.finfo(np.float32).eps)
MEAN = np.array([1.0, -2.0, 0.5])
ROOT = np.array([[1.2, 0.3, 0.0], [0.3, 0.7, -0.2], [0.0, -0.2, 0.5]])
COVARIANCE = ROOT @ ROOT


def gaussian_velocity(x, t):
    """E[x_1 - x_0 | x_t = x] where x_0 ~ N(0, I) and x_1 ~ N(MEAN, COVARIANCE)."""
    eye, cov = jnp.eye(3), jnp.asarray(COVARIANCE, jnp.float32)
    mean = jnp.asarray(MEAN, jnp.float32)[None]
    variance = (1 - t) ** 2 * eye + t**2 * cov
    gain = (t * cov - (1 - t) * eye) @ jnp.linalg.inv(variance)
    return mean + (x - t * mean) @ gain.T


class GaussianFlow(nn.Module):
    """The same as a network; a condition c shifts it."""

    def __call__(self, x, t, c=None):
        v = gaussian_velocity(x, t[0])
        return v if c is None else v + c


class Ends(nn.Module):
    """The condition: a vector for each example."""

    def __call__(self, batch):
        return batch["y"]


Z = jax.random.normal(KEY, (64, 3))
EXACT = np.asarray(Z, np.float64) @ ROOT + MEAN
"""Where the true flow takes Z: its matrices commute, so that it is MEAN + ROOT z."""


def solved(steps, method):
    return np.asarray(integrate(gaussian_velocity, Z, OdePath(steps, method), 0.0, 1.0))


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_paths_end_where_the_true_flow_ends_to_the_order_of_the_method(method, order):
    errors = [np.abs(solved(steps, method) - EXACT).max() for steps in (10, 20, 40)]
    assert errors[-1] < (0.2 if order == 1 else 0.002)
    for coarse, fine in pairwise(errors):
        assert 0.8 < np.log2(coarse / fine) / order < 1.3


def test_samples_have_the_moments_of_the_data():
    """By 4,000 draws: five standard errors, and the error of 20 steps, below 0.02."""
    model, draws = RectifiedFlow(GaussianFlow(), steps=20), 4000
    batch = {"x": jnp.zeros((draws, 3))}
    px = nn.apply(lambda m: m.generate(batch, KEY[None]), model)({})
    x = np.asarray(px.mean[0], np.float64)
    se = np.sqrt(np.diag(COVARIANCE) / draws)
    assert (np.abs(x.mean(0) - MEAN) < 5 * se + 0.02).all()
    scale = np.sqrt(np.diag(COVARIANCE))
    noise = 5 * np.sqrt(2 / draws) * np.outer(scale, scale)
    assert (np.abs(np.cov(x.T) - COVARIANCE) < noise + 0.02).all()


TRUTH = scipy.stats.multivariate_normal(MEAN, COVARIANCE)


@pytest.fixture(scope="module")
def exact():
    x = jnp.asarray(EXACT, jnp.float32)
    return jax.jit(lambda: ode_density(gaussian_velocity, x, OdePath(100), KEY))()


def test_the_density_by_the_exact_divergence_is_the_closed_form(exact):
    """Within its own step error and float32; beginnings of paths are found, too."""
    error = np.abs(np.asarray(exact.log_p) - TRUTH.logpdf(EXACT))
    assert (error < np.asarray(exact.step_error) + 2e-4).all() and error.max() < 0.01
    assert (exact.probe_error == 0).all()
    np.testing.assert_allclose(exact.z, Z, atol=0.005)


def test_the_density_by_random_signs_is_unbiased_and_tells_its_error(exact):
    """z-scores over 64 points have a mean square near 1, as their errors are true.

    With 16 probes they are t-distributed: the mean square is 15 / 13 in expectation;
    points share no signs.
    """
    x = jnp.asarray(EXACT, jnp.float32)
    found = jax.jit(lambda: ode_density(gaussian_velocity, x, OdePath(100), KEY, 16))()
    z = np.asarray((found.log_p - exact.log_p) / found.probe_error)
    assert (np.asarray(found.probe_error) > 0.01).all()
    assert abs(z.mean()) < 5 * np.sqrt(15 / 13 / 64)
    assert 0.5 < np.mean(z**2) < 2.2


def test_a_model_in_other_units_has_the_density_of_these():
    """x = 3 + 2 u, where u has the closed form."""
    model = RectifiedFlow(GaussianFlow(), shift=3.0, spread=2.0)
    x = jnp.asarray(3 + 2 * EXACT[:8], jnp.float32)

    def density(model):
        return model.log_density({"x": x}, KEY, OdePath(60))

    found = jax.jit(nn.apply(density, model))({})
    truth = TRUTH.logpdf(EXACT[:8]) - 3 * np.log(2)
    np.testing.assert_allclose(found.log_p, truth, atol=0.01)
    px = nn.apply(lambda m: m.decode(Z[None, :8], {"x": x}), model)({})
    np.testing.assert_allclose(px.mean[0], x, atol=0.02)


def test_bits_of_a_number_are_those_of_the_density():
    """The closed form has log p + log bin per number, in bins of width 1 / 4."""
    x, log_bin = jnp.asarray(EXACT[:8], jnp.float32), float(np.log(0.25))
    metric = ode_likelihood(OdePath(60), probes=0, log_bin=log_bin)
    batch = {"x": x, "weight": jnp.ones(8)}
    model = RectifiedFlow(GaussianFlow())
    found = metric.compute(metric.update(metric.init(), model, {}, batch, KEY))
    nats = -TRUTH.logpdf(EXACT[:8]).mean()
    assert abs(found["nll"] - nats) < found["nll_step_error"] + 2e-4
    bits = (found["nll"] / 3 - log_bin) / np.log(2)
    assert np.isclose(found["bits_per_dim"], bits, rtol=1e-5)
    assert "nll_probe_error" not in found


def test_guidance_moves_away_from_the_null_label():
    """v = v_0 + c: guidance w gives v_0 + w c, and w = 0 what has no condition."""
    c = jnp.arange(24.0).reshape(8, 3) / 10
    batch, x = {"x": Z[:8], "y": c}, Z[:8]

    def velocity(weight):
        model = RectifiedFlow(GaussianFlow(), Ends())
        move = nn.apply(
            lambda m: m.free_velocity(batch, weight)(x, jnp.float32(0.3)), model
        )
        return move({})

    for weight in (0.0, 1.0, 2.5):
        expected = gaussian_velocity(x, 0.3) + weight * c
        np.testing.assert_allclose(velocity(weight), expected, atol=1e-5)


def test_the_loss_of_the_true_velocity_is_the_variance_that_no_network_explains():
    """E |x_1 - x_0 - E[x_1 - x_0 | x_t]|^2 / 3 at t, integrated by a fine grid."""
    times = np.linspace(0, 1, 401)
    eye = np.eye(3)
    left = []
    for t in times:
        variance = (1 - t) ** 2 * eye + t**2 * COVARIANCE
        cross = t * COVARIANCE - (1 - t) * eye
        rest = COVARIANCE + eye - cross @ np.linalg.solve(variance, cross)
        left.append(np.trace(rest) / 3)
    expected, draws = np.mean(left), 5000
    z = jax.random.normal(jax.random.key(1), (draws, 3))
    x = jnp.asarray(np.asarray(z) @ ROOT + MEAN, jnp.float32)

    class EachTime(nn.Module):
        def __call__(self, x, t, c=None):
            one = partial(jax.vmap, in_axes=(0, 0))
            return one(lambda x, t: gaussian_velocity(x[None], t)[0])(x, t)

    model = RectifiedFlow(EachTime())
    errors = jax.jit(nn.apply(velocity_errors, model))({}, {"x": x}, KEY)
    error = np.std(errors) / np.sqrt(draws)
    assert abs(float(errors.mean()) - expected) < 5 * error
    loss, terms = nn.apply(objectives.flow_matching, model)({}, {"x": x}, KEY)
    assert loss == terms["velocity_error"] and np.isclose(loss, errors.mean())


def test_null_labels_replace_a_share_of_labels():
    y = jnp.arange(4000) % 10
    found = np.asarray(with_null_labels({"y": y}, KEY, 0.1)["y"])
    changed = found != np.asarray(y)
    assert (found[changed] == -1).all()
    assert abs(changed.sum() - 400) < 5 * np.sqrt(4000 * 0.09)
    soft = with_null_labels({"y": nn.one_hot(y, 10)}, KEY, 0.1)["y"]
    np.testing.assert_array_equal(soft.sum(-1), ~changed)
    assert with_null_labels({"x": y}, KEY, 0.1) == {"x": y}


def test_logit_normal_times_are_those():
    t = np.asarray(logit_normal_times(KEY, 4000))
    assert scipy.stats.kstest(np.log(t / (1 - t)), "norm").pvalue > 1e-3


CENTRES = np.array([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]])
SPREAD = 0.4


@pytest.fixture(scope="module")
def trained():
    """A conditional flow of a mixture in the plane, and its parameters."""
    model = RectifiedFlow(VelocityMLP((64, 64)), Label(3), steps=20, guidance=1.0)

    def batch_of(key):
        label_key, noise_key = jax.random.split(key)
        y = jax.random.randint(label_key, (512,), 0, 3)
        noise = jax.random.normal(noise_key, (512, 2))
        return {"x": jnp.asarray(CENTRES, jnp.float32)[y] + SPREAD * noise, "y": y}

    steps = 600
    objective = partial(objectives.flow_matching, null_rate=0.2)
    variables = jax.jit(nn.init(objective, model))(KEY, batch_of(KEY), KEY)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def step(carry, key):
        params, state = carry
        batch = batch_of(key)
        loss = nn.apply(lambda m: objective(m, batch, key)[0], model)
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    begin, keys = (variables, optimizer.init(variables)), jax.random.split(KEY, steps)
    return model, jax.jit(partial(jax.lax.scan, step))(begin, keys)[0][0]


@pytest.fixture(scope="module")
def draws_of(trained):
    """Draws `[N, 2]` for labels `[N]`, compiled once."""
    model, variables = trained

    def generate(model, y):
        batch = {"x": jnp.zeros((len(y), 2)), "y": y}
        return model.generate(batch, KEY[None]).mean[0]

    call = jax.jit(nn.apply(generate, model))
    return lambda y: np.asarray(call(variables, jnp.asarray(y)), np.float64)


NETWORK_ERROR = 0.05
"""An eighth of a component's deviation: what training leaves, beside five standard
errors of the draws."""


def test_trained_on_a_mixture_it_has_its_moments(draws_of):
    """Mean and covariance of the whole mixture, by draws with the null label."""
    draws = 3000
    x = draws_of(np.full(draws, -1))
    covariance = np.cov(CENTRES.T, bias=True) + SPREAD**2 * np.eye(2)
    scale = np.sqrt(np.diag(covariance))
    noise = 5 * scale / np.sqrt(draws)
    assert (np.abs(x.mean(0) - CENTRES.mean(0)) < noise + NETWORK_ERROR).all()
    noise = 5 * np.sqrt(2 / draws) * np.outer(scale, scale)
    assert (np.abs(np.cov(x.T) - covariance) < noise + NETWORK_ERROR).all()


def test_trained_with_labels_it_has_the_moments_of_each_class(draws_of):
    draws = 3000
    y = np.arange(draws) % 3
    x, error = draws_of(y), SPREAD / np.sqrt(draws / 3)
    for label, centre in enumerate(CENTRES):
        own = x[y == label]
        assert (np.abs(own.mean(0) - centre) < 5 * error + NETWORK_ERROR).all()
        assert (np.abs(own.std(0) - SPREAD) < 5 * error + NETWORK_ERROR).all()


def test_the_exact_divergence_is_the_trace_of_the_jacobian(trained):
    """One step of Euler back from t = 1 adds minus that trace there to log p."""
    model, variables = trained
    x, y = jnp.asarray(CENTRES[:2], jnp.float32), jnp.arange(2)

    def density(m):
        move = m.free_velocity({"x": x, "y": y})
        two = ode_density(move, x, OdePath(2, "euler"), KEY)
        jacobian = jax.jacrev(lambda x: move(x, jnp.float32(1.0)))(x)
        return two, jnp.einsum("iaia->i", jacobian), move(x, jnp.float32(1.0))

    found, trace, v = jax.jit(nn.apply(density, model))(variables)
    one = scipy.stats.norm.logpdf(np.asarray(x - v)).sum(-1) - np.asarray(trace)
    # Of two steps and of one the values are `step_error` apart.
    gap = np.abs(np.abs(one - np.asarray(found.log_p)) - np.asarray(found.step_error))
    assert (gap < 1e-4 * (1 + np.abs(one))).all()


@pytest.fixture(scope="module")
def flow():
    """The preset, untrained, on small images: its latents are maps."""
    settings = {"dataset": "digits", "batch_size": 8, "ode_method": "euler"}
    made = presets.latent_flow(**tiny_settings(presets.latent_flow) | settings)
    return made, first_state(made, parallel.make_mesh(1, 8))


def test_a_unet_keeps_any_sides_and_hears_place_time_and_condition(flow):
    """Its parameters are those of the preset, whose images have other sides."""
    net, params = flow[0].model.network, {"params": flow[1].params["network"]}
    x = jax.random.normal(KEY, (2, 5, 3, 1))
    t, c = jnp.array([0.2, 0.7]), jnp.eye(10)[:2]
    call = jax.jit(net.apply)
    assert (call(params, x, t, c) == 0).all()
    # A first velocity is 0.
    far = jax.tree.map(jnp.add, params, scattered(params, 0.3, KEY))
    v = call(far, x, t, c)
    assert v.shape == x.shape
    others = {
        "time": call(far, x, t + 0.1, c),
        "condition": call(far, x, t, 2 * c),
        "a corner": call(far, x.at[:, 0, 0].add(1.0), t, c),
    }
    for what, other in others.items():
        assert (jnp.abs(other - v) > 1e-4).mean() > 0.9, what
    # Rows have no influence on one another: the divergence relies on it.
    alone = call(far, x.at[1].set(0.0), t, c)
    np.testing.assert_allclose(alone[0], v[0], atol=1e-5)


def test_a_column_of_its_classes_is_a_class(flow):
    """Each tile is what `decode` makes of the draw of its row and of its label."""
    figure = plots.classes(*flow, seed=1)
    z = draw_latents(*flow, jax.random.key(1), 8, {}).repeat(10, 0)
    x = np.asarray(vaejax.decode(*flow, z, {"y": np.tile(np.arange(10), 8)}))
    image = np.asarray(figure.axes[0].images[0].get_array())
    tile = image[2 * 66 :, 7 * 66 :, 0][:64:8, :64:8]
    np.testing.assert_allclose(tile, np.clip(x[27, ..., 0], 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"guidance": 2.0}, "--guidance is towards a label: set --labels"),
        ({"probes": 4}, "--probes is of --density-steps"),
        ({"density_steps": 8}, "set --dequantize"),
        ({"body": "unet", "dataset": "breast_cancer"}, "--body unet needs images"),
        ({"channels": ()}, "one width or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        presets.latent_flow(**{"dataset": "digits", "batch_size": 8} | settings)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.log_density(PLANE, KEY, OdePath(8), 1), "1 probes tell no error"),
        (lambda m: m.log_density(PLANE, KEY, OdePath(1)), "1 steps tell no error"),
        (lambda m: m.log_density(PLANE, KEY, OdePath(8, "rk4")), "'rk4' is unknown"),
        (lambda m: m.standardized(PLANE | {"mask": 1}), "the data have holes"),
        (
            lambda m: objectives.flow_matching(m, PLANE, KEY, times="late"),
            "'late' are unknown: choose of uniform, logit_normal",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        nn.apply(call, RectifiedFlow(GaussianFlow()))({})


PLANE = {"x": Z[:2]}
