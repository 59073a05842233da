"""The networks of feature maps: against NumPy's loops, and every size that divides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaejax.errors import InputError
from vaejax.nn.feature_blocks import (
    MapAttention,
    MapDoubling,
    MapHalving,
    MapSizes,
    ResnetBlock,
)
from vaejax.nn.feature_maps import FeatureMapDecoder, FeatureMapEncoder
from vaejax.nn.layers import bodies_in

KEY = jax.random.key(0)
TINY = MapSizes(widths=(4, 8), blocks=1, groups=2)
# Sums of up to 100 products in float32, in another order than NumPy's in float64.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def normed(x, parameters, groups):
    """Group normalization [Wu & He 2018, eq. 1-2], one image and group at a time."""
    out = np.empty_like(x)
    for image in np.ndindex(x.shape[0]):
        for each in np.split(np.arange(x.shape[-1]), groups):
            part = x[(*image, ..., each)]
            scaled = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
            out[(*image, ..., each)] = scaled
    return out * parameters["scale"] + parameters["bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def convolved(x, parameters, stride=1, pads=(1, 1)):
    """A convolution as its definition has it: a sum for each output pixel."""
    kernel = parameters["kernel"]
    side = kernel.shape[0]
    before, after = pads if side > 1 else (0, 0)
    padded = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    rows, columns = (
        (size + before + after - side) // stride + 1 for size in x.shape[1:3]
    )
    out = np.empty((len(x), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(rows, columns):
        top, left = i * stride, j * stride
        seen = padded[:, top : top + side, left : left + side]
        out[:, i, j] = np.einsum("nabc,abcd->nd", seen, kernel)
    return out + parameters["bias"]


def made(module, x, method=None):
    """A module's output and its parameters, none of which is left at 0 or 1."""
    variables = jax.jit(lambda: module.init(KEY, x))()
    leaves, treedef = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    drawn = [leaf + 0.3 * rng.normal(size=leaf.shape) for leaf in leaves]
    params = treedef.unflatten([np.float32(leaf) for leaf in drawn])
    out = jax.jit(lambda p: module.apply({"params": p}, x, method=method))(params)
    return np.asarray(out), jax.tree.map(np.float64, params)


def image(*shape, seed=2):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("width", [4, 6])
def test_a_residual_block_is_its_definition(width):
    """With the shortcut's convolution where the width changes, and without."""
    x = image(2, 3, 5, 4)
    found, params = made(ResnetBlock(width, groups=2), x)
    assert ("conv_shortcut" in params) == (width != 4)
    h = convolved(silu(normed(x, params["norm1"], 2)), params["conv1"])
    h = convolved(silu(normed(h, params["norm2"], 2)), params["conv2"])
    kept = convolved(x, params["conv_shortcut"]) if width != 4 else x
    np.testing.assert_allclose(found, kept + h, **CLOSE)


def test_attention_is_its_definition():
    """A weighted mean of values for each pixel, weights exp(q k / sqrt(channels))."""
    x = image(2, 3, 2, 4)
    found, params = made(MapAttention(groups=2), x)
    h = normed(x, params["group_norm"], 2).reshape(2, 6, 4)
    q, k, v = (
        h @ params[name]["kernel"] + params[name]["bias"]
        for name in ("to_q", "to_k", "to_v")
    )
    seen = np.empty((2, 6, 4))
    for n, pixel in np.ndindex(2, 6):
        weights = np.exp(k[n] @ q[n, pixel] / 2)
        seen[n, pixel] = weights @ v[n] / weights.sum()
    last = params["to_out_0"]
    expected = x + (seen @ last["kernel"] + last["bias"]).reshape(x.shape)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_sides_are_halved_with_padding_below_and_on_the_right():
    x = image(2, 4, 6, 3)
    found, params = made(MapHalving(5), x)
    expected = convolved(x, params["conv"], stride=2, pads=(0, 1))
    assert found.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_sides_are_doubled_by_copies_before_a_convolution():
    x = image(2, 2, 3, 4)
    found, params = made(MapDoubling(5), x)
    expected = convolved(x.repeat(2, 1).repeat(2, 2), params["conv"])
    assert found.shape == (2, 4, 6, 5)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (8, 12), (28, 4)])
def test_maps_fit_every_size_that_divides(size, channels):
    """Two halvings: [h, w] is a quarter of each side, and the decoder comes back."""
    sizes = TINY._replace(widths=(4, 4, 8), attended=(1,))
    encoder, decoder = (
        FeatureMapEncoder(6, sizes, 10),
        FeatureMapDecoder(channels, sizes, 7),
    )

    def outputs(x, z):
        h, _ = encoder.init_with_output(KEY, x)
        return h, decoder.init_with_output(KEY, z)[0]

    height, width = size
    x, z = jnp.zeros((2, *size, channels)), jnp.zeros((2, height // 4, width // 4, 5))
    h, back = jax.eval_shape(outputs, x, z)
    assert h.shape == (2, height // 4, width // 4, 10)
    assert back.shape == x.shape


def test_blocks_are_as_many_as_the_reference_has():
    """The decoder has one more a level; attention follows each block of its level."""
    sizes = MapSizes((4, 4, 8), 2, attended=(1,), middle_attention=False, groups=2)
    params = jax.eval_shape(
        FeatureMapEncoder(6, sizes).init, KEY, jnp.zeros((1, 4, 4, 3))
    )
    encoder = params["params"]
    assert encoder["mid_block"].keys() == {"resnets_0", "resnets_1"}
    attended = {"resnets_0", "resnets_1", "attentions_0", "attentions_1"}
    assert encoder["down_blocks_0"].keys() == {
        "resnets_0",
        "resnets_1",
        "downsamplers_0",
    }
    assert encoder["down_blocks_1"].keys() == {*attended, "downsamplers_0"}
    assert encoder["down_blocks_2"].keys() == {"resnets_0", "resnets_1"}
    params = jax.eval_shape(
        FeatureMapDecoder(3, sizes).init, KEY, jnp.zeros((1, 1, 1, 6))
    )
    decoder = params["params"]
    more = {"resnets_2", "attentions_2", "upsamplers_0"}
    assert decoder["up_blocks_1"].keys() == attended | more
    assert decoder["up_blocks_2"].keys() == {f"resnets_{i}" for i in range(3)}


def test_the_networks_of_stable_diffusion_have_its_number_of_parameters():
    """83,653,863 with both 1x1 convolutions, as diffusers counts those of its f8."""
    encoder, decoder = (
        FeatureMapEncoder(8, projected=8),
        FeatureMapDecoder(3, projected=4),
    )
    shapes = [
        jax.eval_shape(encoder.init, KEY, jnp.zeros((1, 8, 8, 3))),
        jax.eval_shape(decoder.init, KEY, jnp.zeros((1, 1, 1, 4))),
    ]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 83_653_863


@pytest.fixture(scope="module")
def decoded():
    """The decoder's images of maps with a sample axis, in parts and as a whole."""
    module = FeatureMapDecoder(3, TINY._replace(widths=(4, 4), blocks=0), 4)
    z = jnp.asarray(image(3, 2, 2, 2, 5))

    @jax.jit
    def computed(z):
        variables = module.init(KEY, z[0])
        h = module.apply(variables, z, method="features")
        with bodies_in(jnp.bfloat16):
            rough = module.apply(variables, z[0], method="features")
            rounded = module.apply(variables, rough, method="output")
        return {
            "all": module.apply(variables, z),
            "first": module.apply(variables, z[0]),
            "features": h,
            "output": module.apply(variables, h, method="output"),
            "rough": rough,
            "rounded": rounded,
        }

    return computed(z)


def test_sample_axes_are_only_more_rows(decoded):
    assert decoded["all"].shape == (3, 2, 4, 4, 3)
    np.testing.assert_allclose(decoded["all"][0], decoded["first"], **CLOSE)
    assert np.abs(decoded["all"][1] - decoded["first"]).max() > 0.01


def test_the_last_layer_reads_the_features(decoded):
    """`output` of `features` is the whole, and of sample axes, too."""
    assert decoded["features"].shape == (3, 2, 4, 4, 4)
    np.testing.assert_allclose(decoded["output"], decoded["all"], **CLOSE)


def test_hidden_layers_compute_in_the_precision_asked_for(decoded):
    """The output is float32, and bfloat16 differs by its rounding."""
    assert decoded["rough"].dtype == jnp.bfloat16
    assert decoded["rounded"].dtype == jnp.float32
    error = np.abs(decoded["rounded"] - decoded["first"]).max()
    # Some eight layers, each of which rounds to 2^-8.
    assert 1e-5 < error / np.abs(decoded["first"]).max() < 8 * 2**-8


def test_blocks_that_are_computed_again_give_the_same_gradient():
    sizes = TINY._replace(widths=(4,), middle_attention=False)

    @jax.jit
    def gradients(x):
        kept, again = (
            FeatureMapEncoder(2, sizes._replace(remat=r)) for r in (False, True)
        )
        variables = kept.init(KEY, x)
        return [
            jax.grad(lambda v, module=m: jnp.square(module.apply(v, x)).sum())(
                variables
            )
            for m in (kept, again)
        ]

    pair = gradients(jnp.asarray(image(1, 3, 3, 3)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), *pair)


def test_what_cannot_be_halved_is_told_in_one_line():
    with pytest.raises(InputError, match=r"30 x 28 .* 2 times: .* that 4 divides"):
        jax.eval_shape(
            FeatureMapEncoder(6, TINY._replace(widths=(4, 4, 4))).init,
            KEY,
            jnp.zeros((1, 30, 28, 3)),
        )
    with pytest.raises(InputError, match=r"10 channels .* 4 groups"):
        jax.eval_shape(ResnetBlock(8, 4).init, KEY, jnp.zeros((1, 4, 4, 10)))
