"""Schedules at the points that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.configs import Training, Weight
from vaejax.data import from_arrays
from vaejax.presets.assemble import weight_schedule
from vaejax.training.schedules import SCHEDULES

EPS = float(np.finfo(np.float32).eps)
VALUE, STEPS = 4.0, 20


def at(name, *steps):
    """Values under jit, where the step is traced."""
    return jax.jit(jax.vmap(SCHEDULES[name](VALUE, STEPS)))(jnp.array(steps))


def test_the_menu_is_what_the_settings_offer():
    assert set(SCHEDULES) == set(Weight.__annotations__["schedule"].__args__)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("constant", [4, 4, 4, 4, 4]),
        ("linear", [0, 1, 2, 4, 4]),
        # half a cosine: (1 - cos(pi / 4)) / 2 a quarter of the way
        ("cosine", [0, 2 * (1 - np.sqrt(0.5)), 2, 4, 4]),
    ],
)
def test_value_at_the_beginning_within_at_the_end_and_beyond(name, want):
    got = at(name, 0, STEPS // 4, STEPS // 2, STEPS, 10 * STEPS)
    np.testing.assert_allclose(got, want, atol=8 * EPS)


def test_cycles_rise_in_their_first_half_then_stay():
    """[Fu et al. 2019, eq. 6-7]: the value returns to 0 at each new cycle."""
    got = at("cyclical", 0, 5, 10, 15, 19, 20, 25, 30, 39, 40, 400)
    want = [0, 2, 4, 4, 4, 0, 2, 4, 4, 0, 0]
    np.testing.assert_allclose(got, want, atol=8 * EPS)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_concrete_step_gives_what_a_traced_one_does(name):
    """The step of a state is an int32 array; the first call may be a Python number."""
    for step in (0, 7, 33):
        got = SCHEDULES[name](VALUE, STEPS)(step)
        np.testing.assert_allclose(got, at(name, step)[0], rtol=8 * EPS)
        assert jnp.shape(got) == ()


@pytest.fixture(scope="module")
def table():
    """100 training examples: 10 steps of 10 make an epoch."""
    x = np.random.default_rng(0).normal(size=(110, 3))
    return from_arrays(x[:100], x_test=x[100:])


def beta(table, schedule, epochs):
    """beta over steps, as presets schedule it."""
    weight = Weight(beta=VALUE, schedule=schedule, warm_up=epochs)
    return jax.jit(weight_schedule(weight, Training(batch_size=10), table))


@pytest.mark.parametrize(("name", "half"), [("linear", 2), ("cosine", 2)])
def test_a_warm_up_is_counted_in_epochs(table, name, half):
    """3 epochs are 30 steps."""
    values = [beta(table, name, 3.0)(step) for step in (0, 15, 29, 30)]
    np.testing.assert_allclose(values[:2], [0, half], atol=8 * EPS)
    assert values[2] < VALUE == values[3]


@pytest.mark.parametrize("epochs", [0.01, 0.1])
@pytest.mark.parametrize("name", ["linear", "cosine", "cyclical"])
def test_a_warm_up_within_a_step_does_not_last_for_ever(table, name, epochs):
    """It is rounded to no step or one; beta must not stay at the start of its rise."""
    assert beta(table, name, epochs)(5) == VALUE
