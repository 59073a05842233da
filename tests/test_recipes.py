"""Recipes of papers: schedules, initial weights, optimizers, bounds, splits of data."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaejax import parallel, presets
from vaejax.configs import Training
from vaejax.data import from_arrays, open_dataset
from vaejax.data.feed import Shuffled, Stored
from vaejax.errors import InputError
from vaejax.inference.terms import infer
from vaejax.models.heads import GaussianHead, clipped_scale, exp_scale, softplus_scale
from vaejax.nn.gated import (
    GatedConv,
    GatedConvDecoder,
    GatedConvEncoder,
    GatedDense,
    GatedTransposedConv,
)
from vaejax.nn.starts import GLOROT, HE, TORCH
from vaejax.objectives import averaged_elbo, iwae
from vaejax.presets.optimize import adam_norm_grad
from vaejax.presets.tomczak import near_black
from vaejax.training.config import config_of, experiment_of
from vaejax.training.loop import first_state
from vaejax.training.metric_writer import since_best, warm_up_steps
from vaejax.training.optimizers import early_epsilon_adam
from vaejax.training.schedules import (
    epoch_warm_up,
    stage_ends,
    stage_rates,
    stage_words,
    staged,
)

SMALL = {"dataset": "digits", "validation": 100, "epochs": 4}


def test_stages_end_and_fall_as_the_paper_has_them():
    assert stage_ends() == (1, 4, 13, 40, 121, 364, 1093, 3280)
    rates = stage_rates(1e-3)
    np.testing.assert_allclose(rates, [1e-3 * 10 ** (-i / 7) for i in range(8)])
    assert rates[-1] == pytest.approx(1e-4)


def test_the_code_of_burda_et_al_rounds_rates():
    wanted = [1e-4 * round(10.0 ** (1 - (i - 1) / 7.0), 1) for i in range(1, 9)]
    assert wanted[:3] == pytest.approx([1e-3, 7.2e-4, 5.2e-4])
    np.testing.assert_allclose(stage_rates(1e-3, digits=1), wanted, rtol=1e-12)


@pytest.mark.parametrize("digits", [None, 1])
def test_a_step_has_the_rate_of_its_stage(digits):
    rate, each = staged(1e-3, 50, digits), stage_rates(1e-3, digits)
    stage_of_epoch = np.repeat(range(8), [3**i for i in range(8)])
    for step in [0, 49, 50, 199, 200, 50 * 1093 - 1, 50 * 1093, 50 * 3280 - 1]:
        assert float(rate(step)) == np.float32(each[stage_of_epoch[step // 50]])
        assert float(jax.jit(rate)(step)) == float(rate(step))
    assert float(rate(50 * 3280)) == np.float32(each[-1])  # prolonged: it stays


def test_what_of_the_stages_is_complete_is_said():
    assert stage_words(121) == "--decay stages: 5 of 8 stages in 121 epochs"
    assert "1 of 8 stages in 3 epochs, and 2 of 3 epochs of the next" in stage_words(3)
    assert stage_words(3300).endswith("and 20 at the last rate")


def burda(recipe, **settings):
    return presets.iwae_burda(**SMALL, recipe=recipe, **settings)


@pytest.fixture(scope="module")
def begun():
    mesh = parallel.make_mesh(1, 20)
    made = {r: burda(r, ema=0.9) for r in ("paper", "code")}
    states = {r: jax.device_get(first_state(e, mesh)) for r, e in made.items()}
    return made, states


@pytest.mark.parametrize("recipe", ["paper", "code"])
def test_output_biases_are_the_logits_of_the_training_mean(begun, recipe):
    _, states = begun
    x = open_dataset("digits", 100).split("train")["x"].astype(np.float64) / 255
    assert len(x) == 1338
    mean = np.clip(x.mean(0), 0.001, 0.999)
    for params in (states[recipe].params, states[recipe].ema):
        bias = params["decoder"]["body"]["Dense_0"]["bias"]
        np.testing.assert_allclose(1 / (1 + np.exp(-bias)), mean, rtol=1e-5)


def test_only_the_code_begins_layers_of_one_shape_alike(begun):
    _, states = begun

    def square_kernels(params):
        mlps = params["encoder"]["body"]["mlp"], params["decoder"]["body"]["mlp"]
        return [mlp["Dense_1"]["kernel"] for mlp in mlps]

    one, other = square_kernels(states["code"].params)
    np.testing.assert_array_equal(one, other)
    limit = np.sqrt(6 / 400)
    draws = np.random.RandomState(123).uniform(-limit, limit, (200, 200))
    np.testing.assert_allclose(one, draws, rtol=1e-6)
    one, other = square_kernels(states["paper"].params)
    assert np.abs(one - other).max() > limit / 2
    assert limit * 0.99 < np.abs(one).max() <= limit  # Glorot's, of 40,000 draws


def test_only_the_code_has_the_same_batches_in_each_epoch(begun):
    made, _ = begun
    assert made["paper"].order is Shuffled
    order = made["code"].order(45, 20, 3)
    assert isinstance(order, Stored)
    for step in range(5):
        start = 20 * (step % 2)
        np.testing.assert_array_equal(order.rows(step), np.arange(start, start + 20))


def numpy_moves(gradients, beta1, start, epsilon, rate, correct_first):
    """Updates of Adam step by step in float64."""
    m, v, moves = 0.0, start, []
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, 0.999 * v + 0.001 * g**2
        top, bottom = m / (1 - beta1**t), v / (1 - 0.999**t)
        if correct_first:
            moves.append(-rate * top / (np.sqrt(bottom) + epsilon))
        else:
            size = rate * np.sqrt(1 - 0.999**t) / (1 - beta1**t)
            moves.append(-size * m / (np.sqrt(v) + epsilon))
    return moves


@pytest.mark.parametrize(
    ("recipe", "rule"),
    [
        ("paper", (0.9, 0.0, 1e-4, 1e-3, True)),
        ("code", (0.99, 1.0, 1e-4, 1e-3, False)),
    ],
)
def test_each_recipe_has_its_own_adam(begun, recipe, rule):
    optimizer = begun[0][recipe].players["vae"].optimizer
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(4, 3)) * 1e-3
    state = optimizer.init({"w": jnp.zeros(3)})
    # The code differentiates the sum over the batch of 20, the step its mean.
    wanted = numpy_moves(gradients * (20 if recipe == "code" else 1), *rule)
    for gradient, want in zip(gradients, wanted, strict=True):
        moves, state = optimizer.update({"w": jnp.float32(gradient)}, state)
        # 1 - .999^t in float32 is right to 6e-5 of itself, and its root to half of it.
        np.testing.assert_allclose(moves["w"], want, rtol=1e-4)


def test_second_moments_from_ones_hold_the_first_steps_back():
    gradient = {"w": jnp.ones(1)}
    from_ones = early_epsilon_adam(0.99, epsilon=1e-4, square=1.0)
    states = [a.init(gradient) for a in (from_ones, optax.scale_by_adam())]
    ours, _ = from_ones.update(gradient, states[0])
    usual, _ = optax.scale_by_adam().update(gradient, states[1])
    assert float(ours["w"][0]) == pytest.approx(np.sqrt(0.001), rel=1e-3)
    assert float(usual["w"][0]) == pytest.approx(1.0, rel=1e-3)


def test_a_head_is_a_layer_for_the_mean_and_one_for_log_sigma():
    h = jax.random.normal(jax.random.key(0), (5, 4))
    head = GaussianHead(3, exp_scale, GLOROT)
    variables = head.init(jax.random.key(1), h)
    q = head.apply(variables, h)
    mean, log_sigma = (
        np.asarray(h) @ variables["params"][f"Dense_{n}"]["kernel"] for n in (0, 1)
    )
    np.testing.assert_allclose(q.loc, mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(q.scale, np.exp(log_sigma), rtol=1e-5)


def test_the_averaged_elbo_is_the_mean_log_weight(begun):
    model, params = begun[0]["paper"].model, {"params": begun[1]["paper"].params}
    batch = {"x": jnp.round(jax.random.uniform(jax.random.key(1), (4, 8, 8, 1)))}
    key = jax.random.key(2)

    def loss(objective, samples):
        def of(model, batch, key):
            return objective(model, batch, key, samples=samples)

        return nn.apply(of, model)(params, batch, key)

    i = nn.apply(lambda m: infer(m, batch, key, 3), model)(params)
    value, terms = loss(averaged_elbo, 3)
    assert float(value) == pytest.approx(-float(i.log_w.mean()), rel=1e-6)
    both = terms["rate"] + terms["distortion"]
    assert float(both) == pytest.approx(float(value), rel=1e-6)
    assert float(value) > float(loss(iwae, 3)[0])  # Jensen, strictly: weights differ
    one, same = loss(averaged_elbo, 1)[0], loss(iwae, 1)[0]
    assert float(one) == pytest.approx(float(same), rel=1e-6)


def test_the_bounds_select_by_what_they_train():
    values = {"elbo": -3.0, "bound": -2.0}
    assert burda("paper", samples=2).selection(values) == 2.0
    assert burda("paper", samples=2, bound="vae").selection(values) == 3.0


def test_a_number_of_validation_images_are_the_last_of_training():
    whole = open_dataset("digits").split("train")
    held = open_dataset("digits", 100)
    assert held.spec.sizes == {"train": 1338, "test": 359, "validation": 100}
    for key, array in whole.items():
        np.testing.assert_array_equal(held.split("train")[key], array[:-100])
        np.testing.assert_array_equal(held.split("validation")[key], array[-100:])


@pytest.mark.parametrize(
    ("held", "words"), [(1.5, "whole number"), (1438, "to hold 1,438 out")]
)
def test_impossible_numbers_of_validation_images_are_told(held, words):
    with pytest.raises(InputError, match=words):
        open_dataset("digits", held)


def x_and_layer(layer, shape):
    """An input, the layer's parameters with random biases, and its output."""
    x = jax.random.normal(jax.random.key(0), shape)
    params = layer.init(jax.random.key(1), x)["params"]
    return (
        np.float64(x),
        jax.tree.map(np.float64, params),
        layer.apply({"params": params}, x),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_gated_layer_is_one_times_the_sigmoid_of_another():
    x, params, y = x_and_layer(GatedDense(3, HE), (5, 4))
    h, g = (x @ p["kernel"] + p["bias"] for p in params.values())
    np.testing.assert_allclose(y, h * sigmoid(g), rtol=1e-5, atol=1e-6)


def correlate(x, kernel, bias, stride, padding):
    """PyTorch's Conv2d in plain loops: x `[H, W, in]`, kernel `[k, k, in, out]`."""
    x = np.pad(x, [(padding, padding)] * 2 + [(0, 0)])
    size = (len(x) - len(kernel)) // stride + 1
    y = np.zeros((size, size, kernel.shape[-1])) + bias
    for i, j in np.ndindex(size, size):
        part = x[i * stride :, j * stride :][: len(kernel), : len(kernel)]
        y[i, j] += np.einsum("abc,abcd->d", part, kernel)
    return y


def spread(x, kernel, bias, stride, padding, more):
    """PyTorch's ConvTranspose2d: each pixel adds its multiple of the kernel."""
    size = stride * (len(x) - 1) + len(kernel) + more
    y = np.zeros((size, size, kernel.shape[-1]))
    for i, j in np.ndindex(*x.shape[:2]):
        place = y[i * stride :, j * stride :][: len(kernel), : len(kernel)]
        place += np.einsum("c,abcd->abd", x[i, j], kernel)
    end = size - padding
    return y[padding:end, padding:end] + bias


@pytest.mark.parametrize("stride", [1, 2])
def test_a_gated_convolution_is_pytorchs(stride):
    x, params, y = x_and_layer(GatedConv(2, (5, 5), stride, 2), (1, 6, 6, 3))
    h, g = (correlate(x[0], p["kernel"], p["bias"], stride, 2) for p in params.values())
    np.testing.assert_allclose(y[0], h * sigmoid(g), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more", "size"),
    [(7, 1, 0, 0, 7), (5, 2, 2, 1, 6)],
)
def test_a_gated_transposed_convolution_is_pytorchs(
    kernel, stride, padding, more, size
):
    layer = GatedTransposedConv(2, (kernel, kernel), stride, padding, more)
    side = 1 if kernel == 7 else 3
    x, params, y = x_and_layer(layer, (1, side, side, 3))
    assert y.shape == (1, size, size, 2)
    # Flax turns the kernel around, which random ones do not mind.
    h, g = (
        spread(x[0], p["kernel"][::-1, ::-1], p["bias"], stride, padding, more)
        for p in params.values()
    )
    np.testing.assert_allclose(y[0], h * sigmoid(g), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (28, 20, 1), (8, 8, 3)])
def test_sylvesters_bodies_fit_sides_that_are_multiples_of_four(shape):
    def both(key, x, z):
        h, _ = GatedConvEncoder((2, 3)).init_with_output(key, x)
        out, _ = GatedConvDecoder(shape, (2, 3)).init_with_output(key, z)
        return h, out

    x, z = jnp.zeros((4, *shape)), jnp.zeros((5, 4, 6))
    h, out = jax.eval_shape(both, jax.random.key(0), x, z)
    assert (h.shape, out.shape) == ((4, 256), (5, 4, *shape))


def test_layers_begin_with_the_spread_of_their_source():
    n, inputs = (
        400,
        100,
    )  # 40,000 draws: deviations are right to 1 in 280, at 5 sigma 2 %
    key = jax.random.key(0)
    assert float(HE.kernel(key, (inputs, n)).std()) == pytest.approx(
        0.02**0.5, rel=0.02
    )
    for draws in (TORCH.kernel(key, (inputs, n)), HE.bias(inputs)(key, (inputs * n,))):
        assert 0.0999 < float(jnp.abs(draws).max()) <= 0.1
        assert float(draws.std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)
    inputs = near_black(key, (inputs * n,))
    assert float(inputs.mean()) == pytest.approx(0.05, abs=5 * 0.01 / 200)
    assert float(inputs.std()) == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize(
    ("scale", "wanted"),
    [
        (exp_scale, np.exp),
        (clipped_scale, lambda out: np.exp(np.clip(out, -6, 2) / 2)),
        (softplus_scale, lambda out: np.sqrt(np.log1p(np.exp(out)))),
    ],
)
def test_scales_of_heads(scale, wanted):
    out = np.array([-20.0, -6.0, -1.0, 0.0, 2.0, 5.0])
    np.testing.assert_allclose(scale(jnp.float32(out)), wanted(out), rtol=1e-5)


def test_adam_norm_grad_is_adam_of_each_tensors_direction():
    training = Training(epochs=1, learning_rate=5e-4)
    optimizer = adam_norm_grad(training, 10)
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,)}
    gradients = [{n: rng.normal(size=s) for n, s in shapes.items()} for _ in range(3)]
    state, rule = optimizer.init(gradients[0]), (0.9, 0.0, 1e-8, 5e-4, False)
    wanted = {
        n: numpy_moves([g[n] / (np.linalg.norm(g[n]) + 1e-7) for g in gradients], *rule)
        for n in shapes
    }
    for step, gradient in enumerate(gradients):
        moves, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state)
        for name in shapes:
            np.testing.assert_allclose(moves[name], wanted[name][step], rtol=1e-4)
    zeros = {n: jnp.zeros(s) for n, s in shapes.items()}
    moves, _ = optimizer.update(zeros, optimizer.init(zeros))
    assert not any(np.any(move) for move in moves.values())  # and none is NaN


def test_the_warm_up_rises_by_whole_epochs():
    beta = epoch_warm_up(4, 10)
    got = [float(beta(step)) for step in (0, 9, 10, 29, 30, 39, 40, 1000)]
    assert got == [0.25, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert float(epoch_warm_up(0, 10)(0)) == 1


def test_patience_waits_for_the_end_of_a_warm_up():
    evaluations = [(10, 3.0), (20, 1.0), (30, 2.0), (40, 2.0), (50, 2.0)]
    assert since_best(evaluations) == 3
    assert since_best(evaluations, start=40) == 2
    assert since_best([*evaluations, (60, 0.5)], start=40) == 0
    assert warm_up_steps({"warm_up": 4}, 10) == 40
    assert warm_up_steps({"warm_up": 4, "schedule": "constant"}, 10) == 0
    assert warm_up_steps({}, 10) == 0


def tomczak(**settings):
    return presets.vae_tomczak(**SMALL, warm_up=2, **settings)


def test_bits_of_validation_and_test_are_drawn_once():
    grey, made = open_dataset("digits", 100), tomczak()
    random = np.random.RandomState(777)
    for name in ("validation", "test"):
        x = grey.split(name)["x"] / np.float32(255)
        want = random.binomial(1, x) * 255
        got = made.dataset.split(name)
        np.testing.assert_array_equal(got["x"], want)
        raw = {"x": jnp.asarray(got["x"]), "index": jnp.arange(len(x))}
        seen = [made.preprocess.apply(raw, jax.random.key(n))["x"] for n in (0, 1)]
        for each in seen:
            np.testing.assert_array_equal(each.reshape(want.shape), want / 255)
    np.testing.assert_array_equal(
        made.dataset.split("train")["x"], grey.split("train")["x"]
    )


def test_a_run_that_is_read_again_has_the_same_bits():
    config = json.loads(json.dumps(config_of(tomczak())))
    again = experiment_of(config).dataset.split("test")["x"]
    np.testing.assert_array_equal(again, tomczak().dataset.split("test")["x"])


def test_pseudo_inputs_are_clipped_and_five_hundred():
    prior = tomczak().model.prior
    assert (prior.components, prior.unit) == (500, True)
    assert tomczak(components=7).model.prior.components == 7
    few = tomczak(components=2).model.prior
    inputs = jnp.linspace(-1.0, 2.0, 128).reshape(2, 8, 8, 1)
    params = few.init(jax.random.key(0), {"x": jnp.zeros((3, 8, 8, 1))})["params"]
    p = few.apply({"params": params | {"inputs": inputs}}, {"x": inputs})
    q = few.encoder.apply(
        {"params": params["encoder"]}, {"x": jnp.clip(inputs, 0.0, 1.0)}
    )
    z = jax.random.normal(jax.random.key(1), (1, 2, 40))
    each = q.log_prob(z[0, :1]).sum(-1)  # of one z, under both components
    want = jax.nn.logsumexp(each) - np.log(2)
    np.testing.assert_allclose(p.log_prob(z[0])[0], want, rtol=1e-5)


def test_sylvesters_optimizer_is_adamax_with_its_epsilon():
    made = presets.vae_sylvester(**SMALL | {"validation": 0.0}, channels=(2, 3))
    optimizer = made.players["vae"].optimizer
    gradients = np.random.default_rng(0).normal(size=(3, 4)) * 1e-7
    state, m, v = optimizer.init(jnp.zeros(4)), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        moves, state = optimizer.update(jnp.float32(g), state)
        m, v = 0.9 * m + 0.1 * g, np.maximum(0.999 * v, np.abs(g) + 1e-7)
        np.testing.assert_allclose(moves, -5e-4 / (1 - 0.9**t) * m / v, rtol=1e-4)


def test_gated_is_an_activation_of_dense_bodies():
    body = presets.vae(dataset="digits", activation="gated").model.encoder.body
    params = body.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))["params"]
    assert set(params["mlp"]["GatedDense_0"]) == {"Dense_0", "Dense_1"}
    with pytest.raises(InputError, match="of --body mlp"):
        presets.vae_conv(dataset="digits", activation="gated")


BITS = np.arange(20 * 48).reshape(20, 6, 8) % 3 == 0
ODD = from_arrays(BITS[:15].astype(np.uint8), x_test=BITS[15:].astype(np.uint8))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": ODD}, "are 6 x 8: resize"),
        ({"dataset": "breast_cancer"}, "choose a preset with a --likelihood, as vae"),
        ({"channels": (4,)}, "two widths"),
        ({"warm_up": -1}, "at least 0"),
    ],
)
def test_what_sylvesters_preset_cannot_do_is_told(settings, words):
    with pytest.raises(InputError, match=words):
        presets.vae_sylvester(**SMALL | {"validation": 0.0} | settings)
