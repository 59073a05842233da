"""VQ-VAE of two levels: against that of one, by hand, and as a first stage."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from vaejax import InputError, parallel, presets
from vaejax.data import open_dataset
from vaejax.experiment import variables_of
from vaejax.inference.terms import infer
from vaejax.metrics import code_usage
from vaejax.training.loop import first_state

KEY = jax.random.key(5)
EPS = np.finfo(np.float32).eps
K, CHANNELS = 8, 3
ROWS = 6
SMALL = {"dataset": "digits", "batch_size": 64, "epochs": 1, "width": 6, "inner": 4}
SMALL |= {"blocks": 1, "codes": K, "code_channels": CHANNELS, "codebook": "ema"}
SMALL |= {"likelihood": "gaussian_fixed", "codebook_decay": 0.9}
PLACES = {"z1": 4, "z2": 1}
"""Codes of an image of 8 x 8 pixels: 2 x 2 fine ones, and a coarse one."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose codebooks began with k-means."""
    folder = tmp_path_factory.mktemp("two") / "run"
    vaejax.train(presets.vqvae2(**SMALL, code_start="kmeans"), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def bound(run):
    """The run's experiment and variables, a batch, and its inference."""
    experiment, state = vaejax.load(run)
    x = np.float32(experiment.dataset.split("test")["x"][:ROWS]) / 255
    batch = {"x": jnp.asarray(x.reshape(ROWS, 8, 8, 1))}
    variables = variables_of(state)
    i = jax.jit(nn.apply(partial(infer, batch=batch, key=KEY), experiment.model))
    return experiment, variables, batch, i(variables)


@pytest.mark.parametrize(
    "settings",
    [
        {"codebook": "gradient", "code_start": "kmeans"},
        {"codebook": "ema", "code_start": "kmeans"},
        {"bottleneck": "fsq", "channel_values": (3, 2), "code_start": "whitened"},
    ],
)
def test_the_lower_level_begins_with_what_the_upper_one_began_with(settings):
    """To begin again changes nothing: the lower level saw the upper one begin."""
    learned = ("codes", "code_channels", "codebook", "codebook_decay")
    small = {name: value for name, value in SMALL.items() if name not in learned}
    sizes = {} if "bottleneck" in settings else {"codes": K, "code_channels": CHANNELS}
    experiment = presets.vqvae2(**small | sizes | {"codebook": "gradient"} | settings)
    state = first_state(experiment, parallel.make_mesh(1, 64))
    again = experiment.begin(state)
    found, wanted = (jax.tree.leaves((s.params, s.stats)) for s in (again, state))
    for each, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(each, other, rtol=1e-4, atol=1e-4)


def test_the_kl_is_the_logarithm_of_all_pairs_of_maps(bound):
    *_, i = bound
    assert list(i.latents) == ["z1", "z2"]
    for name, places in PLACES.items():
        wanted = np.full((1, ROWS), places * math.log(K))
        np.testing.assert_allclose(i.latents[name].kl.sum(-1), wanted, rtol=4 * EPS)
    np.testing.assert_allclose(i.log_w, i.log_px - 5 * math.log(K), rtol=8 * EPS)


def test_the_loss_is_the_sum_of_its_terms_of_both_levels(bound):
    """The commitment is that of both maps by hand; usage is told of each."""
    experiment, variables, batch, i = bound
    objective = experiment.players["vae"].objective
    loss, terms = jax.jit(nn.apply(objective, experiment.model))(variables, batch, KEY)
    away = [
        np.square(np.float64(term.q.inputs) - np.float64(term.q.entries.sum(-2))).sum()
        for term in i.latents.values()
    ]
    wanted = 0.25 * sum(away) / ROWS
    assert min(away) > 0
    assert abs(float(terms["commitment"]) - wanted) < 50 * EPS * wanted
    assert abs(float(loss - terms["distortion"] - terms["commitment"])) < 1e-4
    assert "codebook" not in terms and "usage" not in terms
    for name, term in i.latents.items():
        used = len(np.unique(term.q.codes)) / K
        assert abs(float(terms[f"usage_{name}"]) - used) < 4 * EPS


def test_both_codebooks_are_moving_averages(bound):
    """A pass keeps .9 of the counts and sums of each, and adds .1 of the batch's."""
    experiment, variables, batch, i = bound
    _, moved = jax.jit(
        lambda v: experiment.model.apply(
            v, batch, method="encode", mutable=["batch_stats"]
        )
    )(variables)
    before, after = variables["batch_stats"], moved["batch_stats"]
    for part, name in {"quantizer": "z1", "top_quantizer": "z2"}.items():
        q = i.latents[name].q
        codes = np.asarray(q.codes).reshape(-1)
        seen = np.bincount(codes, minlength=K)
        wanted = 0.9 * np.float64(before[part]["counts"][0]) + 0.1 * seen
        np.testing.assert_allclose(after[part]["counts"][0], wanted, rtol=1e-5)
        sums = np.zeros((K, CHANNELS))
        np.add.at(sums, codes, np.float64(q.inputs).reshape(-1, CHANNELS))
        wanted = 0.9 * np.float64(before[part]["sums"][0]) + 0.1 * sums
        np.testing.assert_allclose(after[part]["sums"][0], wanted, atol=1e-5)
        assert np.any(before[part]["codebook"] != after[part]["codebook"])


def test_a_run_begins_with_codes_that_are_all_in_use(run):
    """Without training, k-means leaves no code of either level unused."""
    experiment, _ = vaejax.load(run)
    state = first_state(experiment, parallel.make_mesh(1, 64))
    for part in ("quantizer", "top_quantizer"):
        assert state.stats["batch_stats"][part]["counts"].min() > 0
    with pytest.raises(InputError, match="encodings for 2,000 codes"):
        presets.vqvae2(**SMALL | {"codes": 2000}, code_start="kmeans")


def test_latents_as_one_vector_and_as_one_row_of_codes(bound):
    """Coarse first; what is decoded of either is what was inferred. The prior has all
    rows alike, and their mean.
    """
    experiment, variables, batch, i = bound

    @jax.jit
    def views(variables):
        apply = partial(experiment.model.apply, variables)
        q, p = apply(batch, method="encode"), apply(batch, method="prior")
        again = apply(q.codes, method="values_of")
        px = apply(q.mean[None], batch, method="decode")
        return q.codes, q.mean, again, px.mean, p.log_prob(q.mean), p.mean

    codes, mean, again, shown, log_p, center = views(variables)
    rows = [i.latents[n].q.codes.reshape(ROWS, -1) for n in ("z2", "z1")]
    np.testing.assert_array_equal(codes[:, 0, :, 0], np.concatenate(rows, 1))
    values = [i.latents[n].z.reshape(ROWS, -1) for n in ("z2", "z1")]
    np.testing.assert_array_equal(mean, np.concatenate(values, 1))
    np.testing.assert_allclose(again, mean, atol=4 * EPS)
    np.testing.assert_allclose(shown, i.px.mean, atol=50 * EPS)
    np.testing.assert_allclose(log_p, -5 * math.log(K), rtol=4 * EPS)
    stats = variables["batch_stats"]
    books = [stats["top_quantizer"]["codebook"][0]]
    books += 4 * [stats["quantizer"]["codebook"][0]]
    wanted = np.concatenate([np.float64(book).mean(0) for book in books])
    np.testing.assert_allclose(center, np.tile(wanted, (ROWS, 1)), atol=1e-6)


def test_usage_over_a_split_is_told_of_each_level(bound):
    experiment, variables, batch, i = bound
    each = [code_usage(K, block=number) for number in (1, 2)]
    weighed = {**batch, "weight": jnp.ones(ROWS)}

    @jax.jit
    def over(variables):
        given = experiment.model, variables, weighed, KEY
        return [metric.update(metric.init(), *given) for metric in each]

    for metric, acc, name in zip(each, over(variables), PLACES, strict=True):
        found = metric.compute(acc)
        assert set(found) == set(metric.quantities)
        used = len(np.unique(i.latents[name].q.codes)) / K
        assert abs(float(found[f"usage_{name}"]) - used) < 4 * EPS


def without_top(one, two):
    """Variables of two levels that read no coarse map, and the others of one level."""
    top, only = dict(two["params"]), one["params"]
    first = only["decoder"]["body"]["first"]
    blind = jnp.zeros_like(first["kernel"])
    kernel = jnp.concatenate([blind, first["kernel"]], 2)
    body = {**only["decoder"]["body"], "first": {**first, "kernel": kernel}}
    dense = only["encoder"]["Dense_0"]
    kernel = jnp.concatenate([dense["kernel"], jnp.zeros_like(dense["kernel"])])
    top["encoder"] = only["encoder"]["body"]
    top["mixer"] = {**top["mixer"], "Dense_0": {**dense, "kernel": kernel}}
    top["decoder"] = {**top["decoder"], "body": body}
    return {"params": top, "batch_stats": two["batch_stats"] | one["batch_stats"]}


def test_without_the_coarse_map_it_is_the_model_of_one_level(bound):
    """The same codes and likelihood; the bound is less by log K of a coarse code."""
    experiment, variables, batch, _ = bound
    single = presets.vqvae(**SMALL)
    inferred = partial(infer, batch=batch, key=KEY)
    one, two = (nn.apply(inferred, e.model) for e in (single, experiment))
    alone = jax.jit(nn.init(inferred, single.model))(KEY)
    assert set(alone["batch_stats"]) == {"quantizer"}
    wanted = jax.jit(one)(alone)
    found = jax.jit(two)(without_top(alone, variables))
    np.testing.assert_array_equal(
        found.latents["z1"].q.codes, wanted.latents["z"].q.codes
    )
    np.testing.assert_allclose(found.log_px, wanted.log_px, rtol=50 * EPS)
    gap = wanted.log_w - found.log_w
    np.testing.assert_allclose(gap, math.log(K), atol=1e-3)


def test_the_fine_codes_depend_on_the_coarse_one(bound):
    experiment, variables, batch, i = bound
    stats = variables["batch_stats"]
    book = stats["top_quantizer"]["codebook"] + 1.0
    shifted = stats | {"top_quantizer": stats["top_quantizer"] | {"codebook": book}}
    blocks = jax.jit(lambda v: experiment.model.apply(v, batch, method="blocks"))
    top, fine = blocks(variables | {"batch_stats": shifted})
    np.testing.assert_array_equal(top.inputs, i.latents["z2"].q.inputs)
    assert np.abs(fine.inputs - i.latents["z1"].q.inputs).min() > 0


def test_one_second_stage_models_both_levels(run, tmp_path):
    """Its data are rows of codes, the coarse one first; its samples are images."""
    codes = open_dataset(f"latents:{run}")
    assert (codes.spec.shape, codes.spec.levels) == ((1, 5, 1), K)
    small = {"layers": 1, "width": 8, "heads": 2, "labels": True, "batch_size": 64}
    prior = presets.code_transformer(dataset=f"latents:{run}", epochs=1, **small)
    state = vaejax.train(prior, quiet=True)
    both = vaejax.decoded(prior, state)
    images = vaejax.sample(*both, KEY, 3)
    assert images.shape == (3, 8, 8, 1)
    row = vaejax.sample(prior, state, KEY, 3)
    first = vaejax.load(run)
    values_of = parallel.compile_verb(first[0].model, "values_of")
    z = values_of(variables_of(first[1]), jnp.int32(row)[None])
    np.testing.assert_allclose(vaejax.decode(*first, z[0]), images, atol=1e-5)


def test_images_whose_sides_do_not_divide_by_8_are_one_line():
    odd = vaejax.from_arrays(np.zeros((20, 12, 16, 1), np.uint8), name="odd")
    with pytest.raises(InputError, match="12 x 16, which does not divide by 8"):
        presets.vqvae2(dataset=odd, likelihood="bernoulli")
