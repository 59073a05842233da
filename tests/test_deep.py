"""Deep hierarchies: layouts, an independent forward pass, recipes, and their errors."""

import functools
import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import scipy.special

import vaejax
from vaejax import InputError, objectives, parallel
from vaejax.aot.report import stand_in
from vaejax.inference.latents import draw_keys, joined
from vaejax.inference.sources import ALL_BLOCKS, TopBlocks, TopMeans
from vaejax.metrics.likelihood import nll
from vaejax.models import likelihoods as li
from vaejax.models.deep import DeepDecoder, DeepEncoder, DeepVAE, margins
from vaejax.models.heads import smooth_scale
from vaejax.nn.layout import blocks_for, layout_of, parse_encoder
from vaejax.presets.deep_parts import STYLES
from vaejax.presets.hazami import decayed, late_warm_up, narrow_cosine

KEY = jax.random.key(3)
CHILD = "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3"
DEFAULTS = {"latents": 2, "width": 6, "bottleneck": 0.5}
ROWS, SAMPLES = 3, 2


def default_of(name, setting):
    return vaejax.presets.signature.settings_of(
        getattr(vaejax.presets, name).__wrapped__
    )[setting].default


def published(name, mirrored, **more):
    names = {"encoder": "encoder_blocks", "decoder": "decoder_blocks"}
    given = {k: default_of(name, v) for k, v in names.items()}
    same = ("width", "widths", "bottleneck", "latents")
    given |= {k: default_of(name, k) for k in same} | more
    encoder, decoder = given.pop("encoder"), given.pop("decoder")
    return layout_of(encoder, decoder, **given, mirrored=mirrored)


@pytest.mark.parametrize(
    "name, mirrored, ups, downs",
    [
        ("vdvae_cifar10", False, 33, 43),
        ("vdvae_cifar10_efficient", True, 33, 47),
        ("vdvae_mnist", True, 23, 23),
    ],
)
def test_published_layouts_have_the_published_numbers_of_blocks(
    name, mirrored, ups, downs
):
    layout = published(name, mirrored)
    assert (len(layout.up), len(layout.down)) == (ups, downs)
    assert layout.side == 32
    assert layout.total == sum(math.prod(shape) for shape in layout.shapes)


def test_latents_of_vdvae_on_cifar10_are_counted():
    maps = {1: 1, 4: 3, 8: 6, 16: 11, 32: 22}  # side: blocks
    wanted = 16 * sum(side**2 * blocks for side, blocks in maps.items())
    assert published("vdvae_cifar10", False).total == wanted


@pytest.mark.slow
def test_vdvae_on_cifar10_has_the_published_39_million_parameters():
    data = stand_in("50000x32x32x3")
    experiment = vaejax.presets.vdvae_cifar10(dataset=data, validation=0)
    leaves = jax.tree.leaves(parallel.abstract_state(experiment).params)
    assert round(sum(math.prod(leaf.shape) for leaf in leaves) / 1e6) == 39


def test_widths_of_config_c1():
    sizes = dict(published("vdvae_cifar10_efficient", True).sizes)
    assert {s: tuple(size) for s, size in sizes.items()} == {
        32: (48, 48),
        16: (96, 48),
        8: (192, 48),
        4: (384, 96),
        1: (384, 96),
    }


def test_activations_that_blocks_see():
    """The last of a side; or mirrored, one each, where `r` sees that of the block
    before."""
    up, down = "8x2,8d2,4x1,4d4,1x1", "1x1,4m1,4x1,8m4,8x1"
    last = layout_of(up, down, **DEFAULTS)
    # After the input come six activations; those of side 4 are the third and fourth.
    assert [each.sees for each in last.down] == [6, 4, 4, 2, 2]
    mirror = layout_of(up, "1x1,4m1,4x1,8m4,8r2,8x2", **DEFAULTS, mirrored=True)
    assert [each.sees for each in mirror.down] == [5, 4, 3, 2, 2, 2, 1, 0]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("side", [4, 8, 20, 28, 32])
def test_strings_by_the_number_of_blocks_fit_each_other(side, mirrored):
    layout = layout_of(*blocks_for(side, 2), **DEFAULTS, mirrored=mirrored)
    assert layout.side == layout.down[-1].side == side
    assert layout.down[0].side == 1


WRONG = [
    ("32y2", "1x1", {}, "--encoder-blocks has an entry '32y2': write 32x11"),
    ("", "1x1", {}, "--encoder-blocks has an entry ''"),
    ("8x0", "8x1", {}, "--encoder-blocks has an entry '8x0'"),
    ("8d3,2x1", "2x1", {}, "side 8 is no multiple of 3"),
    ("8x1,4x1", "4x1", {}, "'4x1' follows maps of side 8: pool them first, as 8d2"),
    ("8d2,4x1", "4d2,8x1", {}, "--decoder-blocks has an entry '4d2': write 16x5"),
    ("8d2,4x1", "4x1,8x1", {}, "'8x1' is the first of its side: begin with 8m4"),
    ("8d2,4x1", "4x1,8m3", {}, "'8m3' mixes in side 3: choose a side"),
    ("8d2,4x1", "4x1", {}, "ends at side 4, --encoder-blocks begins at 8"),
    ("8d2,4x1", "4r1,8m4", {}, "'4r1' has no block before it"),
    ("8d4,2x1", "2x1,4m2,8m4", {}, "'4m2' sees no block of --encoder-blocks of side 4"),
    ("8d8,1x1", "1x2,8m1", {"mirrored": True}, "'1x2' sees no block"),
    ("8x1,8d8,1x1", "1x1,8m1", {"mirrored": True}, "1 of 3 blocks"),
    ("8x2000", "8x1", {}, "2,000 blocks: 1,000 fit"),
    ("8x1", "8x1", {"widths": "4:2"}, "--widths is of side 4: the blocks have sides 8"),
    ("8x1", "8x1", {"widths": "8=2"}, "--widths has an entry '8=2': write SIDE:CHANN"),
    ("8x1", "8x1", {"width": 0}, "--width is 0"),
    ("8x1", "8x1", {"bottleneck": 0.0}, "--bottleneck is 0"),
]


@pytest.mark.parametrize("up, down, more, says", WRONG)
def test_strings_that_do_not_fit_are_one_line(up, down, more, says):
    with pytest.raises(InputError) as caught:
        layout_of(up, down, **{**DEFAULTS, **more})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_side_alone_is_one_block():
    assert parse_encoder("8,8d2") == parse_encoder("8x1,8d2")


# An independent forward pass in NumPy, of one image and one draw.


def array(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def conv(p, x):
    """A dense layer, or a 3 x 3 convolution of a map with a margin of zeros."""
    kernel = p["kernel"]
    if kernel.ndim == 2:
        return x @ kernel + p["bias"]
    out = [
        sum(
            scipy.signal.correlate2d(x[..., i], kernel[..., i, o], "same")
            for i in range(x.shape[-1])
        )
        for o in range(kernel.shape[-1])
    ]
    return np.stack(out, -1) + p["bias"]


class Reference:
    """The model by its papers' formulas, for the layout `4d4,1x1` and `1x1,4m1`."""

    def __init__(self, params, style):
        self.p, self.efficient = array(params), style == "efficient"

    def act(self, x):
        if self.efficient:
            return x * scipy.special.expit(x)
        return x * 0.5 * (1 + scipy.special.erf(x / math.sqrt(2)))

    def scale(self, raw):
        return np.log2(1 + 2**raw) if self.efficient else np.exp(raw)

    def block(self, p, x):
        for name in ("Dense_0", "middle_1", "middle_2", "Dense_1"):
            x = conv(p[name], self.act(x))
        return x

    def leaky(self, x):
        return np.where(x > 0, x, 0.1 * x)

    def activations(self, x):
        p = self.p["encoder"]["upward"]
        x = self.input(p["input"], 2 * x - 1)
        a = x + self.block(p["block_0"], x)
        if not self.efficient:
            b = a.mean((0, 1), keepdims=True)
            return b + self.block(p["block_1"], b), x
        pool = p["Shrink_0"]["Conv_0"]
        b = np.einsum("hwi,hwio->o", a, pool["kernel"]) + pool["bias"]
        b = self.leaky(b)[None, None]
        below = b + self.block(p["block_1"], b)
        return conv(p["skip_1"], below), conv(p["skip_0"], a)

    def input(self, p, x):
        if self.efficient:
            return x @ p["kernel"][0, 0] + p["bias"]
        return conv(p, x)

    def moments(self, p, x, features):
        h = self.block(p["body"], x)
        if self.efficient:
            rest, h = h[..., :features], h[..., features:]
            h = conv(p["moments"], h)
        else:
            h, rest = h[..., :4], h[..., 4:]
        return h[..., :2], self.scale(h[..., 2:]), rest

    def descend(self, x, zs):
        """The KL of each block from the top, and the logits."""
        seen = self.activations(x)
        p = self.p["decoder"]["downward"]
        q_nets, streams, kls = self.p["encoder"]["posteriors"], None, []
        for n, side in enumerate((1, 4)):
            x = p[f"map_{side}"]
            if n:
                above = streams
                if self.efficient:
                    above = self.leaky(conv(p["enlarge_1"]["Dense_0"], above))
                x = x + np.broadcast_to(above, x.shape)
            m, s, rest = self.moments(p[f"priors_{n}"], x, x.shape[-1])
            both = np.concatenate([x, seen[n]], -1)
            mq, sq, _ = self.moments(q_nets[f"blocks_{n}"], both, 0)
            kls.append(
                (0.5 * ((sq**2 + (mq - m) ** 2) / s**2 - 1) - np.log(sq / s)).sum()
            )
            x = x + rest + conv(p[f"project_{n}"], zs[n])
            streams = x + self.block(p[f"refine_{n}"], x)
        x = streams
        if not self.efficient:
            x = x * self.p["decoder"]["gain"] + self.p["decoder"]["bias"]
        return kls, conv(self.p["decoder"]["output"], x)


def model_of(style, side=4, remat=False, channels=1, likelihood=None):
    own, scale = STYLES[style]
    up, down = f"{side}d{side},1x1", f"1x1,{side}m1"
    layout = layout_of(up, down, **DEFAULTS, mirrored=own.mirrored)
    likelihood = likelihood or li.Bernoulli()
    outputs = likelihood.outputs(channels)
    given = layout, own, scale
    return DeepVAE(
        DeepEncoder(*given, remat=remat),
        DeepDecoder(*given, outputs, likelihood, remat),
    )


def begun(model, batch):
    """Initial weights."""
    init = nn.init(objectives.elbo, model)
    return jax.jit(lambda: init(KEY, batch, KEY)["params"])()


def elbo_with_gradient(model, params, batch):
    def loss(params):
        return nn.apply(objectives.elbo, model)({"params": params}, batch, KEY)[0]

    return jax.value_and_grad(loss)(params)


def observed(model, batch):
    """All that tests ask of a model, as one program of its weights."""

    def asked(model):
        keys = draw_keys(KEY, jnp.arange(SAMPLES))
        other = draw_keys(jax.random.key(8), jnp.arange(SAMPLES))
        i, q = model.infer(batch, keys), model.encode(batch)
        z = model.draw_prior(batch, keys)
        means = model.terms(batch, TopMeans(ALL_BLOCKS))
        blocks = {name: term.z for name, term in i.latents.items()}
        return {
            "z": blocks,
            "kl": {name: term.kl.sum(-1) for name, term in i.latents.items()},
            "p": {name: (t.p.mean, t.p.variance) for name, t in i.latents.items()},
            "logits": i.px.logits,
            "weighed": model.weigh(blocks, batch).log_w,
            "log_w": i.log_w,
            "chain": (model.decode(q.mean[None], batch).logits, means.px.logits),
            "sampled": (
                model.decode(z, batch).logits,
                model.generate(batch, keys).logits,
            ),
            "cold": tuple(model.generate(batch, k, 0.0).logits for k in (keys, other)),
        }

    return jax.jit(lambda params: nn.apply(asked, model)({"params": params}))


class Case(NamedTuple):
    """A model, its initial weights, some of no special values, and a batch."""

    model: Any
    begun: Any
    params: Any
    batch: Any


@functools.cache
def case_of(style):
    model, rng = model_of(style), np.random.default_rng(5)
    batch = {"x": jnp.asarray(rng.integers(0, 2, (ROWS, 4, 4, 1)), jnp.float32)}
    first = begun(model, batch)
    leaves, shape = jax.tree.flatten(first)
    noise = [0.3 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    moved = [leaf + n for leaf, n in zip(leaves, noise, strict=True)]
    return Case(model, first, jax.tree.unflatten(shape, moved), batch)


@functools.cache
def program_of(style):
    return observed(case_of(style).model, case_of(style).batch)


@functools.cache
def seen_of(style):
    """The terms of the model for the batch."""
    return program_of(style)(case_of(style).params)


styles = pytest.mark.parametrize("style", STYLES)


@styles
def test_the_forward_pass_is_that_of_the_formulas(style):
    case, seen = case_of(style), jax.device_get(seen_of(style))
    reference = Reference(case.params, style)
    for s in range(SAMPLES):
        for row in range(ROWS):
            zs = [seen["z"][f"z{2 - n}"][s, row] for n in range(2)]
            x = np.asarray(case.batch["x"][row], np.float64)
            kls, logits = reference.descend(x, zs)
            # Some 10 layers in float32, of numbers of order 1 to 100.
            close = {"rtol": 1e-4, "atol": 1e-4}
            np.testing.assert_allclose(seen["logits"][s, row], logits, **close)
            for n, kl in enumerate(kls):
                np.testing.assert_allclose(seen["kl"][f"z{2 - n}"][s, row], kl, **close)


@styles
def test_given_latents_weigh_as_drawn_ones(style):
    seen = seen_of(style)
    np.testing.assert_allclose(seen["weighed"], seen["log_w"], rtol=1e-4, atol=1e-3)


@styles
def test_the_chain_of_means_is_encoded_and_decoded(style):
    decoded, means = seen_of(style)["chain"]
    np.testing.assert_allclose(decoded, means, rtol=1e-5, atol=1e-5)


@styles
def test_ancestral_draws_are_those_that_are_generated(style):
    decoded, generated = seen_of(style)["sampled"]
    np.testing.assert_allclose(decoded, generated, rtol=1e-5, atol=1e-5)
    assert np.ptp(decoded, axis=0).max() > 0.01  # draws differ


@styles
def test_at_temperature_0_samples_do_not_depend_on_keys(style):
    one, other = seen_of(style)["cold"]
    np.testing.assert_array_equal(one, other)


def test_priors_begin_as_standard_normals_and_the_kl_small():
    seen = program_of("vdvae")(case_of("vdvae").begun)
    for name, (mean, variance) in seen["p"].items():
        np.testing.assert_array_equal(mean, np.zeros_like(mean))
        np.testing.assert_array_equal(variance, np.ones_like(variance))
        per_latent = seen["kl"][name] / math.prod(mean.shape[2:])
        assert (abs(per_latent) < 0.1).all()


def test_recomputed_blocks_give_the_same_gradient():
    case, again = case_of("vdvae"), model_of("vdvae", remat=True)
    shapes = jax.eval_shape(lambda: begun(again, case.batch))
    assert jax.tree.structure(shapes) == jax.tree.structure(case.params)

    @jax.jit
    def both(params):
        models = case.model, again
        return [elbo_with_gradient(model, params, case.batch) for model in models]

    (one, slopes), (two, others) = both(case.params)
    assert float(one) == pytest.approx(float(two), rel=1e-6)
    for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# Blocks in a loop: maps of side 2, whose convolutions are of 1 x 1 and compile fast.
LOOPED = {"vdvae": "1x1,2m1,2x2", "efficient": "1x1,2m1,2x3"}
NOISY = 0.3


def looped_model(style, remat=False, scan=False):
    own, scale = STYLES[style]
    up, down = "2x3,2d2,1x1", LOOPED[style]
    layout = layout_of(up, down, **DEFAULTS, mirrored=own.mirrored)
    given, likelihood = (layout, own, scale), li.Bernoulli()
    return DeepVAE(
        DeepEncoder(*given, remat=remat, scan=scan),
        DeepDecoder(*given, 1, likelihood, remat, scan),
    )


@functools.cache
def looped_case(style):
    """A model without a loop, weights of no special values, and a batch."""
    model, rng = looped_model(style), np.random.default_rng(7)
    batch = {"x": jnp.asarray(rng.integers(0, 2, (ROWS, 2, 2, 1)), jnp.float32)}
    first = jax.eval_shape(functools.partial(begun, model, batch))
    leaves, shape = jax.tree.flatten(first)
    drawn = [NOISY * rng.normal(size=a.shape).astype(np.float32) for a in leaves]
    return Case(model, first, jax.tree.unflatten(shape, drawn), batch)


def loops_in(jaxpr):
    """The lengths of its loops."""
    return [int(n) for n in re.findall(r"\blength=(\d+)", str(jaxpr))]


def assert_close(found, wanted):
    """Equal but for the order of sums in float32, of numbers of order 1."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize(
    "style, remat",
    [pytest.param("vdvae", False, marks=pytest.mark.slow), ("efficient", True)],
)
def test_blocks_in_a_loop_are_those_one_by_one(style, remat):
    """Loss, terms of each block, and gradients; recomputed ones, too."""
    case = looped_case(style)

    def asked(params, model):
        def loss(params):
            return nn.apply(objectives.elbo, model)(
                {"params": params}, case.batch, KEY, samples=SAMPLES
            )

        return jax.value_and_grad(loss, has_aux=True)(params)

    def of(remat, scan):
        model = looped_model(style, remat, scan)
        return jax.jit(asked, static_argnums=1).trace(case.params, model)

    one, loop = of(False, False), of(remat, True)
    # The encoder's loop and the decoder's, forth and back.
    assert loops_in(one.jaxpr) == []
    blocks = len(case.model.shapes)
    assert sorted(loops_in(loop.jaxpr)) == [3, 3, blocks - 1, blocks - 1]
    assert ("remat" in str(loop.jaxpr)) == remat
    found, wanted = (
        jax.device_get(each.lower().compile()(case.params)) for each in (loop, one)
    )
    assert wanted[0][1].keys() >= {f"kl_z{n + 1}" for n in range(blocks)}
    assert_close(found, wanted)


def test_every_source_of_latents_goes_through_loops():
    """Means, given values and samples are those without a loop, with the same keys."""
    case, rng = looped_case("efficient"), np.random.default_rng(1)
    keys = draw_keys(KEY, jnp.arange(SAMPLES))
    values = {
        name: jnp.asarray(rng.normal(size=(SAMPLES, ROWS, *shape)), jnp.float32)
        for name, shape in case.model.shapes.items()
    }

    def asked(model):
        found = {
            "weighed": model.weigh(values, case.batch),
            "cool": model.generate(case.batch, keys, 0.7).logits,
            "encoded": model.encode(case.batch),
        }
        if model.decoder.scan:
            z = joined([*values.values()])
            found["decoded"] = model.decode(z, case.batch).logits
        return found

    def of(scan):
        applied = nn.apply(asked, looped_model("efficient", scan=scan))
        return jax.jit(lambda params: applied({"params": params})).trace(case.params)

    one, loop = of(False), of(True)
    assert loops_in(one.jaxpr) == []
    assert sorted(loops_in(loop.jaxpr)) == [3] * 2 + [4] * 4
    found, wanted = (
        jax.device_get(each.lower().compile()(case.params)) for each in (loop, one)
    )
    decoded = found.pop("decoded")
    np.testing.assert_allclose(decoded, found["weighed"].px.logits, rtol=1e-5)
    assert_close(found, wanted)


@pytest.mark.parametrize(
    "of", [TopMeans, functools.partial(TopBlocks, draw_keys(KEY, jnp.arange(1)))]
)
def test_a_loop_is_of_blocks_that_are_all_above_or_all_below(of):
    """Else they are taken one by one."""
    names, first = ("z4", "z3", "z2"), 1
    for blocks in (0, 1):
        assert of(blocks).in_loop(names, first).blocks == 0
    for blocks in (2, 3):
        assert of(blocks).in_loop(names, first) is None
    for blocks in (4, 9, ALL_BLOCKS):
        assert of(blocks).in_loop(names, first).blocks == ALL_BLOCKS


def test_scan_is_a_setting_of_the_blocks():
    model = vaejax.presets.vdvae(**TINY, blocks=3, scan=True).model
    assert model.encoder.scan and model.decoder.scan


@styles
def test_a_loop_leaves_the_tree_of_parameters_as_it_is(style):
    case = looped_case(style)
    begin = functools.partial(begun, looped_model(style, scan=True), case.batch)
    assert jax.eval_shape(begin) == case.begun


def test_the_balanced_elbo_weighs_blocks_by_their_use():
    """gamma_l = L (KL_l / latents) / sum of these; without balance it is the ELBO."""
    case = case_of("vdvae")

    def asked(model):
        given = (model, case.batch, KEY)
        plain = objectives.elbo(*given, beta=0.7)
        off = objectives.balanced_elbo(*given, beta=0.7)
        return plain, off, objectives.balanced_elbo(*given, beta=0.7, balance=1.0)

    applied = jax.jit(lambda p: nn.apply(asked, case.model)({"params": p}))
    plain, off, balanced = jax.device_get(applied(case.params))
    np.testing.assert_allclose(off[0], plain[0], rtol=1e-6)
    kl = np.array([balanced[1][f"kl_z{n}"] for n in (1, 2)])
    share = kl / np.array([4 * 4 * 2, 2])
    gamma = 2 * share / share.sum()
    np.testing.assert_allclose(balanced[1]["rate"], 0.7 * gamma @ kl, rtol=1e-5)
    assert abs(gamma @ kl / kl.sum() - 1) > 1e-3


def test_weight_decay_is_of_kernels_of_blocks_and_resampling():
    flat = jax.tree_util.tree_leaves_with_path(decayed(case_of("efficient").params))
    names = {"/".join(part.key for part in path): value for path, value in flat}
    kept = {name for name, value in names.items() if not value}
    assert "decoder/downward/map_4" in kept
    assert "decoder/output/kernel" in kept
    assert "encoder/upward/skip_0/kernel" in kept
    assert "encoder/posteriors/blocks_0/moments/kernel" in kept
    assert "decoder/downward/project_1/kernel" in kept
    assert names["decoder/downward/refine_1/middle_1/kernel"]
    assert names["encoder/upward/Shrink_0/Conv_0/kernel"]
    assert names["decoder/downward/enlarge_1/Dense_0/kernel"]
    assert all(name in kept for name in names if not name.endswith("kernel"))


def test_images_are_padded_evenly_and_cropped_again():
    assert margins((28, 27), 32) == [(2, 2), (2, 3)]
    model = model_of("vdvae")
    batch = {"x": jnp.ones((1, 3, 4, 1))}

    def logits():
        keys = draw_keys(KEY, jnp.arange(1))
        variables = {"params": begun(model, batch)}
        return model.apply(variables, batch, keys, method="infer").px.logits

    assert jax.eval_shape(logits).shape == (1, 1, 3, 4, 1)


def test_bits_per_dim_of_mixtures_of_logistics_count_all_numbers():
    model = model_of("vdvae", channels=3, likelihood=li.LogisticMixture())
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.integers(0, 256, (ROWS, 4, 4, 3)) / 255, jnp.float32)
    batch = {"x": x, "weight": jnp.ones(ROWS)}
    metric = nll(1, log_bin=0.0)

    @jax.jit
    def fold():
        variables = {"params": begun(model, batch)}
        acc = metric.update(metric.init(), model, variables, batch, KEY)
        return metric.compute(acc)

    found = jax.device_get(fold())
    wanted = found["nll"] / (4 * 4 * 3 * math.log(2))
    np.testing.assert_allclose(found["bits_per_dim"], wanted, rtol=1e-5)


@pytest.mark.parametrize("raw", [-300.0, -20.0, 0.0, 5.0])
def test_smoothed_mixtures_of_logistics_sum_to_1_at_any_scale(raw):
    likelihood = li.LogisticMixture(mixtures=1, smooth=True, log_scale_floor=-12.0)
    levels = jnp.arange(256).reshape(256, 1, 1, 1) / 255
    out = jnp.broadcast_to(jnp.array([0.0, 0.1, raw]), (256, 1, 1, 3))
    p = likelihood(out, {"x": levels})
    assert np.exp(p.log_prob(levels)).sum() == pytest.approx(1, rel=1e-5)
    floored = max(math.log(math.log2(1 + 2.0**raw)) if raw > -100 else -99, -12.0)
    np.testing.assert_allclose(p.log_scales, floored, rtol=1e-4)


def test_the_smooth_scale_is_1_at_0():
    raw = jnp.array([-3.0, 0.0, 2.0])
    wanted = np.log2(1 + 2.0 ** np.asarray(raw))
    np.testing.assert_allclose(smooth_scale(raw), wanted, rtol=1e-6)
    assert wanted[1] == 1


def test_the_rate_of_hazami_rises_stays_and_falls():
    rate = narrow_cosine(1e-3, 1e-4, 5000, 195_000)
    half = (1e-3 + 1e-4) / 2
    steps = {0: 0.0, 50: 5e-4, 100: 1e-3, 4999: 1e-3, 5000: 1e-3}
    steps |= {5000 + 97_500: half, 200_000: 1e-4, 300_000: 1e-4}
    for step, wanted in steps.items():
        assert rate(step) == pytest.approx(wanted, rel=1e-5), step
    beta = late_warm_up(500)
    for step, wanted in {0: 1e-4, 21: 1e-4, 271: 250 / 521, 542: 1, 900: 1}.items():
        assert beta(step) == pytest.approx(wanted, rel=1e-5), step


TINY = {"dataset": "digits", "width": 4, "latents": 2, "batch_size": 32}


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"encoder_blocks": "32x1,32d32,1x1", "decoder_blocks": "1x1,32m1"}, "side 32"),
        ({"encoder_blocks": "4d4,1x1", "decoder_blocks": "1x1,4m1"}, "begin at 8"),
        ({"encoder_blocks": "8d8,1x1"}, "--encoder-blocks alone"),
        ({"blocks": 0}, "--blocks is 0"),
        ({"dataset": "breast_cancer"}, "choose vae"),
        ({"likelihood": "bernouli"}, "bernoulli"),
        ({"style": "other"}, "style"),
        ({"free_bits": -1.0}, "--free-bits is -1"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_line(settings, says):
    with pytest.raises(InputError) as caught:
        vaejax.presets.vdvae(**{**TINY, **settings})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_keeps_its_own_schedule():
    with pytest.raises(InputError, match="--decay cosine is not of this preset"):
        small = {"encoder_blocks": "8d8,1x1", "decoder_blocks": "1x1,8m1"}
        vaejax.presets.vdvae_mnist(**TINY, **small, widths="", decay="cosine")


def test_blocks_of_any_depth_by_a_number():
    model = vaejax.presets.vdvae(**TINY, blocks=3).model
    sides = [shape[0] for shape in reversed(model.shapes.values())]
    assert sides == [1] * 3 + [4] * 4 + [8] * 4
