"""Bodies and layers: exact sizes, permission instead of a flag, normalization."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.errors import InputError
from vaejax.models import CriticNetwork, JointCritic
from vaejax.nn import networks as net
from vaejax.nn.layers import (
    BatchNorm,
    Dropout,
    Norm,
    ResidualBlock,
    averages_at,
    bodies_in,
    double,
    halve,
)

EPS = float(np.finfo(np.float32).eps)
KEY = jax.random.key(0)
SIZES = [(28, 28), (29, 31), (8, 8), (5, 3), (1, 1)]
CONV = {"channels": (4, 6), "hidden": 10}


@pytest.mark.parametrize("blocks", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_convolutional_bodies_fit_every_size(size, channels, blocks):
    """Also odd ones, and with sample axes before the batch."""
    shape = (*size, channels)
    norm = "group" if blocks else "none"
    encoder = net.ConvEncoder(**CONV, blocks=blocks, norm=norm)
    decoder = net.ConvDecoder(shape, **CONV, blocks=blocks, norm=norm)

    def outputs(key, x, z):
        return (
            encoder.init_with_output(key, x)[0],
            decoder.init_with_output(key, z)[0],
        )

    x, z = jnp.zeros((2, *shape)), jnp.zeros((5, 2, 3))
    features, out = jax.eval_shape(outputs, KEY, x, z)
    assert features.shape == (2, 10)
    assert out.shape == (5, 2, *shape)
    assert jax.eval_shape(outputs, KEY, x, z[0])[1].shape == (2, *shape)


@pytest.mark.parametrize("size", SIZES)
def test_bodies_without_a_dense_layer_give_and_take_maps(size):
    """Each stage halves a map; the latents may have any number of channels."""
    shape = (*size, 3)
    stages = {"channels": (4, 6), "hidden": None}
    encoder, decoder = net.ConvEncoder(**stages), net.ConvDecoder(shape, **stages)
    height, width = net.map_sizes(*size, 2)[-1]
    assert (height, width) == tuple(-(-side // 4) for side in size)

    def outputs(key, x, z):
        return (
            encoder.init_with_output(key, x)[0],
            decoder.init_with_output(key, z)[0],
        )

    x, z = jnp.zeros((2, *shape)), jnp.zeros((5, 2, height, width, 7))
    features, out = jax.eval_shape(outputs, KEY, x, z)
    assert features.shape == (2, height, width, 6)
    assert out.shape == (5, 2, *shape)


def test_flat_bodies_serve_images_and_tables():
    mlp = net.MLP((7,))
    for shape in ((4,), (3, 2, 1)):
        x, z = jnp.zeros((2, *shape)), jnp.zeros((5, 2, 3))
        encoder, decoder = net.FlatEncoder(mlp), net.FlatDecoder(mlp, shape)
        features, _ = jax.eval_shape(encoder.init_with_output, KEY, x)
        assert features.shape == (2, 7)
        out, _ = jax.eval_shape(decoder.init_with_output, KEY, z)
        assert out.shape == (5, 2, *shape)


def test_flat_encoder_keeps_examples_apart():
    x = jax.random.normal(KEY, (3, 2, 2, 1))
    encoder = net.FlatEncoder(net.MLP(()))
    np.testing.assert_array_equal(encoder.apply({}, x), x.reshape(3, 4))


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_an_mlp_is_dense_layers_each_with_its_activation(hidden):
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    out, state = net.MLP(hidden, jnp.tanh).init_with_output(KEY, jnp.asarray(x))
    want = x
    for i in range(len(hidden)):
        layer = jax.tree.map(np.asarray, state["params"][f"Dense_{i}"])
        want = np.tanh(want @ layer["kernel"] + layer["bias"])
    np.testing.assert_allclose(out, want, atol=20 * EPS)


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_halving_and_doubling_move_every_pixel_back(size):
    x = jnp.arange(2.0 * 3 * np.prod(size) * 2).reshape(2, 3, *size, 2)
    half = halve(x)
    assert half.shape == (2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2, 8)
    np.testing.assert_array_equal(double(half, *size), x)


def test_halving_keeps_neighbours_together():
    """A place of the half image is the 2 x 2 block there, row by row."""
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(halve(image)[0, 0, 1], [2, 3, 6, 7])
    np.testing.assert_array_equal(halve(image)[0, 1, 0], [8, 9, 12, 13])


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_fresh_residual_block_is_the_identity(norm):
    x = jax.random.normal(KEY, (2, 4, 3, 6))
    out, state = jax.jit(ResidualBlock(norm).init_with_output)(KEY, x)
    np.testing.assert_array_equal(out, x)
    stirred = jax.tree.map(lambda a: a + 0.1, state)
    moved = jax.jit(ResidualBlock(norm).apply)(stirred, x)
    assert np.abs(moved - x).max() > 0.01  # it can learn


class TestBatchNorm:
    x = 3 + 2 * jax.random.normal(KEY, (50, 4))
    state = BatchNorm().init(KEY, x)

    def test_statistics_move_where_they_are_mutable(self):
        out, new = BatchNorm().apply(self.state, self.x, mutable=["batch_stats"])
        np.testing.assert_allclose(out.mean(0), 0, atol=50 * EPS)
        # 1e-5 is added to a variance of about 4
        np.testing.assert_allclose(out.std(0), 1, atol=1e-5)
        stats = new["batch_stats"]["BatchNorm_0"]
        mean, variance = np.mean(self.x, 0), np.var(self.x, 0)
        np.testing.assert_allclose(stats["mean"], mean, rtol=100 * EPS)
        np.testing.assert_allclose(stats["var"], variance, rtol=100 * EPS)

    def test_running_statistics_have_no_made_up_start(self):
        """Weights .99^k by the age k of a batch, over their sum."""
        batches = [self.x * scale + scale for scale in (1.0, 0.5, 2.0)]
        state = self.state
        for x in batches:
            _, state = self.update(state, x)
        weights = 0.99 ** np.array([2, 1, 0])
        stats = state["batch_stats"]["BatchNorm_0"]
        for name, of in (("mean", np.mean), ("var", np.var)):
            want = weights @ np.stack([of(x, 0) for x in batches]) / weights.sum()
            np.testing.assert_allclose(stats[name], want, rtol=200 * EPS)

    def update(self, state, x):
        out, new = BatchNorm().apply(state, x, mutable=["batch_stats"])
        return out, {**state, **new}

    def test_statistics_move_by_the_rate_of_the_averaged_parameters(self):
        state, rates = self.state, (0.8, 0.5, 0.25)
        batches = [self.x, self.x + 1, 2 * self.x]
        for rate, x in zip(rates, batches, strict=True):
            with averages_at(jnp.float32(rate)):
                _, state = self.update(state, x)
        weights = np.array([0.8 * 0.5 * 0.75, 0.5 * 0.75, 0.25])
        want = weights @ np.stack([np.mean(x, 0) for x in batches]) / weights.sum()
        mean = state["batch_stats"]["BatchNorm_0"]["mean"]
        np.testing.assert_allclose(mean, want, rtol=100 * EPS)

    def test_statistics_are_the_running_ones_where_they_are_not(self):
        """Fresh: mean 0 and variance 1, so nothing is centred, example by example."""
        out = BatchNorm().apply(self.state, self.x)
        # 1 / sqrt(1 + 1e-5)
        np.testing.assert_allclose(out, self.x, rtol=1e-5)
        alone = BatchNorm().apply(self.state, self.x[:1])
        np.testing.assert_allclose(alone, out[:1], rtol=4 * EPS)


class TestDropout:
    x = jnp.ones((1000,))

    def test_without_a_key_is_the_identity(self):
        np.testing.assert_array_equal(Dropout(0.25).apply({}, self.x), self.x)

    def test_with_a_key_drops_the_rate_and_keeps_the_mean(self):
        out = Dropout(0.25).apply({}, self.x, rngs={"dropout": KEY})
        kept = np.asarray(out) > 0
        np.testing.assert_allclose(out[kept], 1 / 0.75, rtol=4 * EPS)
        error = np.sqrt(0.25 * 0.75 / 1000)  # standard error of the share
        assert abs(kept.mean() - 0.75) < 5 * error

    def test_other_keys_do_not_make_it_drop(self):
        out = Dropout(0.25).apply({}, self.x, rngs={"params": KEY})
        np.testing.assert_array_equal(out, self.x)

    def test_an_mlp_passes_its_rate_on(self):
        mlp = net.MLP((100,), dropout=0.5)
        x = jax.random.normal(KEY, (2, 3))
        state = mlp.init(KEY, x)
        dropped = mlp.apply(state, x, rngs={"dropout": KEY})
        assert (dropped == 0).sum() > (mlp.apply(state, x) == 0).sum()


class TestGroupNorm:
    @pytest.mark.parametrize(("channels", "size"), [(6, 6), (13, 1), (16, 8), (20, 5)])
    def test_groups_are_the_largest_divisor_up_to_eight(self, channels, size):
        """Any number of channels; mean 0 and variance 1 in each group of an example."""
        x = 3 + 2 * jax.random.normal(KEY, (2, 5, 4, channels))
        out, _ = jax.jit(Norm("group").init_with_output)(KEY, x)
        groups = np.asarray(x, float).reshape(2, 20, channels // size, size)
        mean, variance = (f(groups, (1, 3), keepdims=True) for f in (np.mean, np.var))
        want = (groups - mean) / np.sqrt(variance + 1e-6)
        # E[x^2] - E[x]^2 loses 13 / 4 of its precision; results are below 5
        np.testing.assert_allclose(out.reshape(want.shape), want, atol=100 * EPS)

    def test_a_sample_axis_changes_nothing(self):
        x = jax.random.normal(KEY, (4, 2, 3, 3, 6))
        norm = jax.jit(Norm("group").apply)
        state = jax.jit(Norm("group").init)(KEY, x[0])
        at_once = norm(state, x)
        for s in range(4):
            # normalized values are below 10, each a sum over 54
            np.testing.assert_allclose(at_once[s], norm(state, x[s]), atol=100 * EPS)


def test_an_unknown_norm_is_named():
    with pytest.raises(InputError, match="'layer' is unknown: choose of none, batch"):
        Norm("layer").init(KEY, jnp.zeros((1, 2)))


RESIDUAL = CONV | {"blocks": 2, "norm": "group"}


def parameters_and_gradient(encoder, decoder):
    """Of the sum of squares of what a decoder makes of an encoder's features."""
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    z, e = jax.jit(encoder.init_with_output)(KEY, x)
    params = {"e": e, "d": jax.jit(decoder.init)(KEY, z)}
    # The last kernels of fresh residual blocks are zero, and their gradient tells all.
    params = jax.tree.map(lambda a: a + 0.1, params)

    def loss(params):
        features = encoder.apply(params["e"], x)
        return jnp.sum(decoder.apply(params["d"], features) ** 2)

    gradient = jax.grad(loss)
    return params, jax.make_jaxpr(gradient)(params), jax.jit(gradient)(params)


def test_blocks_computed_again_give_the_same_gradient():
    one = RESIDUAL | {"blocks": 1}
    kept, again = (
        parameters_and_gradient(
            net.ConvEncoder(**one, remat=remat),
            net.ConvDecoder((8, 8, 1), **one, remat=remat),
        )
        for remat in (False, True)
    )
    assert jax.tree.structure(kept[0]) == jax.tree.structure(again[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max()
        ),
        kept[2],
        again[2],
    )
    assert "remat" not in str(kept[1])
    assert str(again[1]).count("remat") >= 4  # a block, two stages, two networks


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        (net.FlatEncoder(net.MLP((7, 5), norm="batch")), 2),
        (net.ConvEncoder(**RESIDUAL), 2 + 2 * 4 + 1),
        (net.ConvEncoder(**CONV, norm="spectral"), 3),
        (net.FlatDecoder(net.MLP((7,)), (8, 8, 1)), 1),
        (net.ConvDecoder((8, 8, 1), **RESIDUAL), 2 + 2 * 4 + 2),
    ],
)
def test_hidden_layers_compute_in_bfloat16_and_nothing_else(body, hidden):
    """Parameters and what a decoder gives are float32, and products take bfloat16."""
    decodes = "Decoder" in type(body).__name__
    x = jax.random.normal(KEY, (2, 5) if decodes else (2, 8, 8, 1))
    exact = body.init_with_output(KEY, x)
    with bodies_in(jnp.bfloat16):
        out, variables = body.init_with_output(KEY, x)
        program = str(jax.make_jaxpr(body.apply)(variables, x))
    assert out.dtype == (jnp.float32 if decodes else jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:dot_general|conv_general)", program)
    assert products.count("bf16") == hidden
    size = np.abs(exact[0]).max()
    # bfloat16 keeps 8 bits, and a few layers lose a few units of the last.
    np.testing.assert_allclose(out.astype(np.float32), exact[0], atol=0.05 * size)
    assert not np.array_equal(out, exact[0])


FLAT = net.FlatEncoder(net.MLP((7, 5)))


@pytest.mark.parametrize(
    ("judge", "pair"),
    [
        (CriticNetwork(FLAT), False),
        (JointCritic(FLAT, net.MLP((4,)), net.MLP((4,))), True),
    ],
)
def test_what_critics_judge_by_is_float32(judge, pair):
    x = jax.random.normal(KEY, (2, 3))
    with bodies_in(jnp.bfloat16):
        judged, _ = judge.init_with_output(KEY, (x, x) if pair else x, {"x": x})
    assert {leaf.dtype for leaf in jax.tree.leaves(judged)} == {jnp.dtype("float32")}
