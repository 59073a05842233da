"""Hierarchies inferred from the top: truth, sources of latents, and their uses."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import vaejax
from vaejax import InputError, objectives
from vaejax import distributions as d
from vaejax.data.preprocess import blank
from vaejax.distributions.temperature import at_temperature
from vaejax.experiment import variables_of
from vaejax.inference.latents import FromPosterior, joined, split_blocks
from vaejax.inference.sources import ALL_BLOCKS, TopBlocks, TopMeans
from vaejax.metrics import block_metrics
from vaejax.models import HVAE, VAE, LadderVAE, StandardNormal
from vaejax.models.ladder import LadderPrior, precision_weighted
from vaejax.nn.ladder import FittedConv, cropped, padded
from vaejax.presets import PRESETS
from vaejax.presets.conv_ladder import planned
from vaejax.presets.signature import tiny_settings
from vaejax.training.step import init

KEY = jax.random.key(5)
EPS = np.finfo(np.float32).eps
ROWS = 4
rng = np.random.default_rng(1)


class Fixed(nn.Module):
    """A part that is a function of its arguments."""

    function: object

    def __call__(self, *arguments):
        return self.function(*arguments)


def normal(loc, scale):
    loc = jnp.asarray(loc, jnp.float32)
    return d.Normal(
        loc, times(jnp.ones_like(loc), np.broadcast_to(scale, loc.shape[-1:]))
    )


def times(z, slope):
    """z `[..., n]` times a slope for each of the n."""
    return z * jnp.asarray(slope, jnp.float32).reshape((1,) * (z.ndim - 1) + (-1,))


def keys(samples):
    return jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(samples))


# A chain of three: z3 ~ N(0, I), z2 = C z3, z1 = A z2, x = W z1, each with noise. All
# matrices are diagonal, so that each posterior given the block above is diagonal.

SIZE = 3
C, A, W = (rng.uniform(0.5, 1.5, SIZE) for _ in range(3))
S2, S1, SIGMA = 0.7, 0.5, 0.6
X = rng.normal(size=(ROWS, SIZE)).astype(np.float32)
BATCH = {"x": jnp.asarray(X)}


def evidence():
    """log p(x), from the marginal variances."""
    v2 = C**2 + S2**2
    v1 = A**2 * v2 + S1**2
    return scipy.stats.norm(0, np.sqrt(W**2 * v1 + SIGMA**2)).logpdf(X).sum(-1)


def upward():
    """Slopes and variances of x as a measurement of z1, z2 and z3."""
    noise1 = SIGMA**2
    noise2 = noise1 + W**2 * S1**2
    noise3 = noise2 + (W * A) ** 2 * S2**2
    return ((W, noise1), (W * A, noise2), (W * A * C, noise3))


def likelihood_of(block):
    """The Gaussian in z_block that p(x | z_block) is proportional to."""
    slope, noise = upward()[block]
    return lambda batch: normal(times(batch["x"], 1 / slope), np.sqrt(noise) / slope)


def exact_ladder():
    """q^_L is the posterior of the top block, each lower q^_i the likelihood of z_i."""

    def encoder(batch):
        top = precision_weighted(
            likelihood_of(2)(batch), normal(jnp.zeros((1, 1)), 1.0)
        )
        return (likelihood_of(0)(batch), likelihood_of(1)(batch), top)

    rungs = (
        Fixed(lambda z: normal(times(z, A), S1)),
        Fixed(lambda z: normal(times(z, C), S2)),
    )
    decoder = Fixed(lambda z, batch: normal(times(z, W), SIGMA))
    return LadderVAE(Fixed(encoder), LadderPrior(rungs), decoder, StandardNormal(SIZE))


def inferred(model, samples=2):
    return jax.jit(lambda: model.apply({}, BATCH, keys(samples), method="infer"))()


def with_wrong_encoder(model):
    """The same model, whose way up is moved and too wide."""

    def encoder(batch):
        return tuple(
            d.Normal(q.loc + 0.3, 1.2 * q.scale) for q in model.encoder.function(batch)
        )

    return model.clone(encoder=Fixed(encoder))


def test_a_ladder_with_exact_messages_has_equal_weights():
    """q^_i = p(x | z_i), merged with the prior, is the posterior: precisions add up."""
    i = inferred(exact_ladder())
    # Log densities are sums of nine terms of size up to ten.
    np.testing.assert_allclose(i.log_w, np.tile(evidence(), (2, 1)), rtol=100 * EPS)
    assert list(i.latents) == ["z1", "z2", "z3"]


def test_a_wrong_ladder_has_an_unbiased_evidence_and_analytic_divergences():
    samples = 40_000
    i = inferred(with_wrong_encoder(exact_ladder()), samples)
    gap = np.exp(np.asarray(i.log_w, np.float64) - evidence())
    error = gap.std(0) / math.sqrt(samples)
    assert (error < 0.05).all()
    assert (np.abs(gap.mean(0) - 1) < 4 * error).all()
    assert (np.asarray(i.log_w).mean(0) < evidence()).all()
    for term in i.latents.values():
        drawn = np.asarray(term.log_q - term.log_p, np.float64)
        exact = np.asarray(term.kl.sum(-1), np.float64)
        difference = drawn - exact
        error = difference.std(0) / math.sqrt(samples)
        assert (np.abs(difference.mean(0)) < 4 * error + 1e-6).all()
        assert exact.mean() > 0.05


def test_the_prior_of_a_ladder_is_ancestral():
    samples = 40_000
    model = exact_ladder()

    def draw(keys):
        return model.apply({}, BATCH, keys, method="draw_blocks")

    blocks = jax.jit(draw)(keys(samples))
    variance = {"z3": np.ones(SIZE), "z2": C**2 + S2**2}
    variance["z1"] = A**2 * variance["z2"] + S1**2
    for name, expected in variance.items():
        found = np.asarray(blocks[name], np.float64)[:, 0]
        # The variance of a Gaussian's sample variance is 2 sigma^4 / n.
        np.testing.assert_allclose(
            found.var(0), expected, rtol=4 * math.sqrt(2 / samples)
        )
        assert (np.abs(found.mean(0)) < 4 * np.sqrt(expected / samples)).all()
    z1 = model.apply({}, BATCH, keys(3), method="draw_prior")
    np.testing.assert_allclose(z1, blocks["z1"][:3], rtol=1e-5)


def two_blocks():
    """An HVAE whose z2 is drawn in vain, and the VAE of what is left."""
    q1 = likelihood_of(0)
    top = StandardNormal(2)
    decoder = exact_ladder().decoder.function
    hvae = HVAE(
        encoder=top,
        lower_encoder=Fixed(lambda batch, z2: repeated(q1(batch), len(z2))),
        decoder=Fixed(lambda z, batch: decoder(z[..., :SIZE], batch)),
        lower_decoder=Fixed(lambda z2: normal(jnp.zeros((*z2.shape[:2], SIZE)), 1.0)),
        prior=top,
    )
    return hvae, VAE(Fixed(q1), Fixed(decoder), StandardNormal(SIZE))


def repeated(q, samples):
    loc = jnp.broadcast_to(q.loc, (samples, *q.loc.shape))
    return d.Normal(loc, jnp.broadcast_to(q.scale, loc.shape))


def test_two_blocks_with_the_second_one_cut_are_one():
    hvae, vae = two_blocks()
    i = inferred(hvae, 3)
    z1 = i.latents["z1"].z
    one = vae.apply({}, {"z": z1}, BATCH, method="weigh")
    np.testing.assert_allclose(i.log_w, one.log_w, rtol=100 * EPS)
    np.testing.assert_allclose(i.latents["z2"].kl, 0, atol=EPS)


def test_given_blocks_are_weighed_as_they_were_drawn():
    model = with_wrong_encoder(exact_ladder())
    i = inferred(model)
    again = model.apply(
        {}, {n: t.z for n, t in i.latents.items()}, BATCH, method="weigh"
    )
    np.testing.assert_allclose(again.log_w, i.log_w, rtol=100 * EPS)


def test_a_product_of_gaussians_is_a_gaussian_by_precision():
    a, b = normal(rng.normal(size=3), 0.7), normal(rng.normal(size=(2, 3)), 1.3)
    merged = precision_weighted(a, b)
    z = jnp.asarray(rng.normal(size=(5, 2, 3)), jnp.float32)
    # log a(z) + log b(z) - log merged(z) is a constant: it does not depend on z.
    densities = [scipy.stats.norm(q.loc, q.scale).logpdf(z) for q in (a, b, merged)]
    rest = densities[0] + densities[1] - densities[2]
    np.testing.assert_allclose(rest, np.tile(rest[:1], (5, 1, 1)), atol=50 * EPS)
    # The constant is the density of the difference of means under both variances.
    between = scipy.stats.norm(b.loc, math.hypot(0.7, 1.3)).logpdf(a.loc)
    np.testing.assert_allclose(rest[0], between, rtol=1e-5)


# Sources of latents


def test_top_blocks_are_those_of_q_and_the_others_of_p():
    model = with_wrong_encoder(exact_ladder())

    def drawn(source):
        return model.apply({}, BATCH, source, method="terms").latents

    every = drawn(TopBlocks(keys(2), 3))
    exact = drawn(FromPosterior(keys(2)))
    for name, term in exact.items():
        np.testing.assert_array_equal(every[name].z, term.z)
    one = drawn(TopBlocks(keys(2), 1))
    np.testing.assert_array_equal(one["z3"].z, exact["z3"].z)
    noise = (one["z2"].z - one["z2"].p.loc) / S2
    of_q = (exact["z2"].z - exact["z2"].q.loc) / exact["z2"].q.scale
    np.testing.assert_allclose(noise, of_q, atol=50 * EPS)  # the same key, of p


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_at_temperature_0_a_ladder_is_deterministic(blocks):
    model = with_wrong_encoder(exact_ladder())

    def drawn(source):
        return model.apply({}, BATCH, source, method="terms").latents

    cold = drawn(TopBlocks(keys(2), blocks, 0.0))
    last = cold["z1"]
    np.testing.assert_array_equal(last.z, last.p.loc)
    if not blocks:
        other = drawn(TopBlocks(keys(2)[::-1], 0, 0.0))
        means = drawn(TopMeans(0))
        for name, term in cold.items():
            np.testing.assert_array_equal(term.z, other[name].z)
            np.testing.assert_array_equal(term.z[:1], means[name].z)


def test_a_temperature_multiplies_deviations():
    cold = at_temperature(normal([1.0, 2.0], [0.5, 1.0]), 0.5)
    np.testing.assert_allclose(cold.scale, [0.25, 0.5])
    mixture = dist.MixtureSameFamily(
        dist.Categorical(jnp.full(2, 0.5)),
        dist.Independent(normal([[0.0, 1.0], [2.0, 3.0]], 1.0), 1),
    )
    np.testing.assert_allclose(
        at_temperature(mixture, 0.1).component_distribution.base_dist.scale, 0.1
    )
    with pytest.raises(InputError, match="temperature scales Gaussians"):
        at_temperature(dist.Gamma(1.0), 0.5)


def test_blocks_of_a_vector_are_parted_as_they_were_joined():
    shapes = {"z1": (2, 3, 1), "z2": (4,)}
    blocks = {n: rng.normal(size=(2, 5, *s)) for n, s in shapes.items()}
    z = joined([jnp.asarray(b) for b in blocks.values()])
    assert z.shape == (2, 5, 10)
    for name, part in split_blocks(z, shapes).items():
        np.testing.assert_allclose(part, blocks[name], rtol=EPS)


# Objectives and metrics


def test_free_bits_of_blocks_are_of_each_example():
    model = with_wrong_encoder(exact_ladder())
    floor = 0.5
    loss, terms = nn.apply(
        partial(objectives.block_elbo, free_bits=floor, beta=0.5), model
    )({}, BATCH, KEY)
    i = model.apply({}, BATCH, keys(1), method="infer")
    kls = np.stack([np.asarray(t.log_q - t.log_p)[0] for t in i.latents.values()])
    assert (kls < floor).any()
    assert (kls > floor).any()
    expected = 0.5 * np.maximum(kls, floor).sum(0).mean()
    np.testing.assert_allclose(terms["rate"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, expected - i.log_px.mean(), rtol=1e-5)
    of_blocks = sum(terms[f"kl_{name}"] for name in i.latents)
    np.testing.assert_allclose(of_blocks, terms["kl"], rtol=1e-5)


def test_metrics_of_blocks_are_parts_of_the_whole():
    model = exact_ladder()
    batch = {**BATCH, "weight": jnp.ones(ROWS)}
    found = {}
    for metric in block_metrics({"z1": SIZE, "z2": SIZE, "z3": SIZE}).values():
        acc = metric.update(metric.init(), model, {}, batch, KEY)
        values = metric.compute(acc)
        assert {n.removesuffix("_se") for n in values} == set(metric.quantities)
        found |= values
    i = model.apply({}, BATCH, keys(1), method="infer")
    of_blocks = sum(found[f"kl_z{n}"] for n in (1, 2, 3))
    np.testing.assert_allclose(of_blocks, i.kl.mean(), rtol=1e-5)
    # The chain of means of an exact posterior is E[z | x], linear in x.
    gain = np.sqrt(
        [W**2 * C**2 * A**2 / (W**2 * (A**2 * (C**2 + S2**2) + S1**2) + SIGMA**2) ** 2]
    )
    means = X * gain
    assert found["active_units_z3"] == (means.var(0, ddof=1) > 0.01).sum()


# Convolutions


@pytest.mark.parametrize("layer", [FittedConv(3, 3, 2), FittedConv(3, up=True)])
def test_a_convolution_fits_itself_to_its_first_batch(layer):
    x = jnp.asarray(rng.normal(3, 2, (2, 6, 4, 4, 5)), jnp.float32)
    variables = layer.init(KEY, x)
    y, fitted = layer.apply(variables, x, mutable=["params"])
    np.testing.assert_allclose(layer.apply(fitted, x), y, atol=1e-4)
    assert y.shape == (2, 6, *((8, 8) if layer.up else (2, 2)), 3)
    axes = (0, 1, 2, 3)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(axes), 0.1, rtol=1e-3)
    assert np.abs(layer.apply(variables, x).std(axes) - 0.1).min() > 0.1


def test_padding_is_cropped_again():
    x = jnp.asarray(rng.normal(size=(2, 5, 7, 1)))
    wide = padded(x, (8, 8))
    assert wide.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(cropped(wide, (5, 7)), x)


SIX = (0, 1, 0, 1, 0, 1)


@pytest.mark.parametrize(
    ("shape", "layers", "padded_to", "steps"),
    [
        ((28, 28, 1), 3, (32, 32), (1, 1, 1)),
        ((28, 28, 1), 6, (32, 32), SIX),
        ((32, 32, 3), 12, (32, 32), (0, 0, 0, 1) * 3),
        ((64, 64, 3), 4, (64, 64), (1, 1, 1, 1)),
        ((8, 8, 1), 2, (8, 8), (0, 1)),
        ((3, 4, 1), 2, (4, 4), (0, 0)),
    ],
)
def test_a_ladder_of_maps_ends_in_two_by_two(shape, layers, padded_to, steps):
    plan = planned(shape, vaejax.configs.Latents(5), layers, ())
    assert plan.padded == padded_to
    assert plan.downsample == steps
    assert plan.maps[-1] == (2, 2, 5)
    assert all(
        side <= 2 * half
        for side, half in zip(plan.maps[0][:2], plan.maps[1][:2], strict=True)
    )


# Presets


def tiny(name, **settings):
    common = {"dataset": "digits", "batch_size": 8, "epochs": 1}
    return PRESETS[name](**common | tiny_settings(PRESETS[name]) | settings)


def some_variables(experiment):
    """Random parameters, which need no compiled initialization."""
    draws = np.random.default_rng(0)
    raw = blank(experiment.dataset.spec, ROWS)
    shapes = variables_of(jax.eval_shape(lambda: init(experiment, KEY, raw)))
    return jax.tree.map(
        lambda leaf: jnp.asarray(draws.uniform(0.1, 0.3, leaf.shape), leaf.dtype),
        shapes,
    )


HIERARCHIES = ("hvae_tomczak", "ladder_vae", "ladder_vae_conv")


@pytest.mark.parametrize("name", HIERARCHIES)
def test_uses_of_a_hierarchy(name):
    """All in one program: decode takes what x depends on; means; temperature 0."""
    experiment = tiny(name)
    model, batch = experiment.model, {"x": jnp.ones((ROWS, 8, 8, 1)).at[0].set(0)}

    @jax.jit
    def uses(variables, keys):
        bound = model.bind(variables)
        i = bound.infer(batch, keys)
        z = joined([i.latents[name].z for name in bound.decoded()])
        means = bound.terms(batch, TopMeans(ALL_BLOCKS))
        return {
            "px": (i.px.mean, bound.decode(z, batch).mean),
            "weighed": (
                i.log_w,
                bound.weigh({n: t.z for n, t in i.latents.items()}, batch).log_w,
            ),
            "mean": (
                joined([means.latents[name].z for name in bound.decoded()])[0],
                bound.encode(batch).mean,
            ),
            "cold": (
                bound.draw_prior(batch, keys, 0.0)[0],
                bound.draw_prior(batch, keys, 0.0)[1],
            ),
            "from the top": (
                means.px.mean,
                bound.from_top(batch, TopMeans(len(i.latents))).mean,
            ),
        }

    found = uses(some_variables(experiment), keys(2))
    if name == "hvae_tomczak":
        found.pop("cold")  # a draw of a mixture is one of its components
    for use, (a, b) in found.items():
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=use)


def test_hierarchies_refuse_what_does_not_fit():
    wrong = [
        ("ladder_vae", {"lower_latents": (4, 4)}, "give one for each of"),
        ("ladder_vae", {"norm": "batch", "prior": "vamp"}, "batch norm"),
        ("ladder_vae_conv", {"downsample": (1,)}, "for 2 layers"),
        ("ladder_vae_conv", {"downsample": (0, 2)}, "--layer-blocks"),
        ("ladder_vae_conv", {"dataset": "breast_cancer"}, "needs images"),
        ("ladder_vae_conv", {"layers": 1}, "at least 2"),
    ]
    for name, settings, words in wrong:
        with pytest.raises(InputError, match=words):
            tiny(name, **settings)
