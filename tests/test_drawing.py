"""Parameters that are drawn together are those that Flax draws one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.nn.drawing import drawn_together


class Inner(nn.Module):
    """A layer with statistics, and a parameter of its own."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))
        return x + self.param("shift", nn.initializers.normal(), (1, 3))


class Outer(nn.Module):
    """Layers by themselves, under remat, in a loop that splits keys, and noise."""

    @nn.compact
    def __call__(self, x):
        x = nn.remat(Inner)()(Inner()(x))
        loop = nn.scan(
            lambda layer, carry, _: (layer(carry), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=2,
        )
        x, _ = loop(Inner(), x, None)
        noise = jax.random.normal(self.make_rng("params"), x.shape)
        return nn.Dense(2)(x + noise)


KEY, X = jax.random.key(3), jnp.ones((4, 3))


def eager(function):
    return function


def count(jaxpr, name):
    return sum(equation.primitive.name == name for equation in jaxpr.eqns)


@pytest.mark.parametrize("transformed", [eager, jax.jit, jax.vmap])
def test_parameters_and_statistics_are_those_of_init(transformed):
    init = Outer().init
    keys = jax.random.split(KEY, 2) if transformed is jax.vmap else KEY
    x = jnp.stack([X, X]) if transformed is jax.vmap else X
    expected = transformed(init)(keys, x)
    found = transformed(drawn_together(init))(keys, x)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    # In another program XLA may round other operations of a draw: two units of 2^-23.
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2.4e-7)


def test_each_distribution_is_drawn_once_and_no_forward_pass_is_left():
    init = nn.Sequential([Inner(), Inner()]).init
    plain = jax.make_jaxpr(init)(KEY, X)
    together = jax.make_jaxpr(drawn_together(init))(KEY, X)
    parameters = jax.tree.leaves(jax.eval_shape(init, KEY, X)["params"])
    assert count(plain, "random_fold_in") == len(parameters) == 10
    assert count(together, "random_fold_in") == 1
    assert count(together, "scan") == 2  # two kernels of one shape, and two shifts
    assert count(plain, "dot_general") > 0
    assert count(together, "dot_general") == 0


def test_an_initializer_without_a_draw_needs_no_key():
    init = nn.LayerNorm().init
    jax.tree.map(
        np.testing.assert_array_equal, drawn_together(init)(KEY, X), init(KEY, X)
    )


class Checked(nn.Module):
    """Its forward pass has an effect, and no result that parameters need."""

    @nn.compact
    def __call__(self, x):
        jax.debug.callback(SEEN.append, x.sum(), ordered=True)
        return nn.Dense(1)(x)


SEEN = []


def test_what_has_an_effect_is_kept():
    SEEN.clear()
    jax.jit(drawn_together(Checked().init))(KEY, X)
    jax.effects_barrier()
    assert SEEN == [12]
