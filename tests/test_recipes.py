"""Recipes of papers: schedules, initial weights, optimizers, bounds, splits of data."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vaejax import parallel, presets
from vaejax.data import open_dataset
from vaejax.data.feed import Shuffled, Stored
from vaejax.errors import InputError
from vaejax.inference.terms import infer
from vaejax.models.heads import GaussianHead, exp_scale
from vaejax.nn.starts import GLOROT
from vaejax.objectives import averaged_elbo, iwae
from vaejax.training.loop import first_state
from vaejax.training.optimizers import early_epsilon_adam
from vaejax.training.schedules import stage_ends, stage_rates, stage_words, staged

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
    assert float(terms["elbo"]) == -float(value)
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
