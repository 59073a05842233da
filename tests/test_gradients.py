"""Estimators of gradients against each other, closed forms and exact enumeration.

Of a linear-Gaussian chain the exact posterior is known, where a gradient without score
is exactly zero; elsewhere all estimators agree with a long pathwise average, within 5
standard errors.
"""

import functools
import itertools
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from tests.test_inference import EPS, KEY
from vaejax import InputError, objectives, parallel
from vaejax.cli.tables_laboratory import TABLES
from vaejax.distributions import Normal
from vaejax.inference import bounds as b
from vaejax.inference.gradients import estimate
from vaejax.inference.latents import Block, latent_term
from vaejax.inference.terms import Inference, log_observed
from vaejax.laboratory.gradients import gradient_moments, gradient_snr, ratios_of
from vaejax.laboratory.measure import measure, measurement_settings
from vaejax.laboratory.settings import Laboratory
from vaejax.laboratory.summary import means_and_doubts
from vaejax.models import (
    VAE,
    Decoder,
    GaussianEncoder,
    LatentModel,
    MissingVAE,
    StandardNormal,
    VampPrior,
)
from vaejax.models.likelihoods import GaussianFixed
from vaejax.nn import networks as net
from vaejax.presets import PRESETS
from vaejax.purposes import OfLaboratory, OfRun
from vaejax.training.evaluator import held_out_examples
from vaejax.training.loop import first_state
from vaejax.training.step import own_gradient

X = {"x": jnp.asarray([[-1.5], [0.4], [2.0]])}
DRAWS = 4000


class Chain(LatentModel):
    """z_n ~ N(0, 1), z_i ~ N(g_i z_{i+1}, s_i^2), x = z_0 ~ N(g_0 z_1, s_0^2).

    Inferred upwards: q(z_{i+1} | z_i) = N(a_i z_i, t_i^2), which of the right numbers
    is the exact posterior: the chain is Markov both ways.
    """

    blocks: int

    @nn.compact
    def terms(self, batch, source):
        def numbers(name):
            return self.param(name, nn.initializers.zeros, (self.blocks,))

        g, s = numbers("g"), jnp.exp(numbers("log_s"))
        a, t = numbers("a"), jnp.exp(numbers("log_t"))
        below, drawn, z = batch["x"], [], None
        for n in range(self.blocks):
            loc = a[n] * below
            q = Normal(loc, jnp.broadcast_to(t[n], loc.shape))
            z, log_q = source(Block(f"z{n}", q, number=n, each=n > 0))
            drawn.append((q, z, log_q))
            below = z
        priors = [Normal(g[n] * drawn[n][1], s[n]) for n in range(1, self.blocks)]
        top = Normal(jnp.zeros_like(z[0]), jnp.ones_like(z[0]))
        px = Normal(g[0] * drawn[0][1], s[0])
        latents = {
            f"z{n}": latent_term(q, p, z, log_q, analytic=False)
            for n, ((q, z, log_q), p) in enumerate(
                zip(drawn, [*priors, top], strict=True)
            )
        }
        return Inference(log_observed(px, batch), latents, px)


def chain(blocks, wrong=0.0):
    """Parameters with the exact posterior, or one that is off by about `wrong`."""
    g, s = np.array([0.9, -0.7, 1.2])[:blocks], np.array([0.6, 0.8, 0.5])[:blocks]
    variance, up = np.ones(blocks + 1), np.zeros((2, blocks))
    for n in reversed(range(blocks)):
        variance[n] = g[n] ** 2 * variance[n + 1] + s[n] ** 2
        up[0, n] = g[n] * variance[n + 1] / variance[n]
        up[1, n] = np.log(variance[n + 1] * s[n] ** 2 / variance[n]) / 2
    off = wrong * np.array([[0.8, -1.0, 0.9], [0.7, 1.0, -0.8]])[:, :blocks]
    a, log_t = up + off
    params = {"g": g, "log_s": np.log(s), "a": a, "log_t": log_t}
    return {n: jnp.asarray(v, jnp.float32) for n, v in params.items()}, variance[0]


class Sampled(NamedTuple):
    """Mean gradients and their standard errors, one vector of all parameters."""

    mean: np.ndarray
    error: np.ndarray


def entries(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@functools.cache
def compiled(model, bound, gradient, beta, draws):
    objective = partial(objectives.weighted, bound=bound, gradient=gradient, beta=beta)

    def one(params, batch, key):
        return nn.apply(objective, model)({"params": params}, batch, key)[0]

    def all_of(params, batch):
        keys = jax.random.split(KEY, draws)
        return jax.vmap(jax.grad(one), (None, None, 0))(params, batch, keys)

    return jax.jit(all_of)


def gradients(model, params, bound, gradient, *, batch=X, beta=1.0, draws=DRAWS):
    """Independent gradients, each parameter `[draws, ...]`."""
    return compiled(model, bound, gradient, beta, draws)(params, batch)


def sampled(*arguments, **settings):
    found = gradients(*arguments, **settings)
    found = jax.tree.map(lambda g: np.asarray(g, np.float64), found)
    draws = len(jax.tree.leaves(found)[0])
    mean = entries(jax.tree.map(lambda g: g.mean(0), found))
    error = entries(jax.tree.map(lambda g: g.std(0) / np.sqrt(draws), found))
    return Sampled(mean, error)


def distance(one, other):
    """The largest difference of means, in standard errors."""
    error = np.hypot(one.error, other.error)
    return (np.abs(one.mean - other.mean) / np.maximum(error, 1e-6)).max()


IWAE = b.importance_weighted(4)
BOUNDS = {
    "iwae": IWAE,
    "multiply": b.multiply_weighted(3, 2),
    "combination": b.combined(4, 0.3),
    "renyi": b.renyi(4, -0.5),
}
CASES = [
    (1, "iwae", 0.7, "dreg"),
    (1, "multiply", 1.0, "dreg"),
    (1, "combination", 1.0, "dreg"),
    (1, "renyi", 0.7, "dreg"),
    (1, "multiply", 0.7, "vimco"),
    (3, "iwae", 1.0, "dreg"),
    (3, "iwae", 1.0, "vimco"),
]


@pytest.mark.parametrize(("blocks", "name", "beta", "gradient"), CASES)
def test_an_estimator_has_the_mean_of_the_pathwise_one(blocks, name, beta, gradient):
    """Also of tempered weights; in a chain no path is weighted twice."""
    model, (params, _) = Chain(blocks), chain(blocks, wrong=0.3)
    arguments = model, params, BOUNDS[name]
    want = sampled(*arguments, "pathwise", beta=beta)
    got = sampled(*arguments, gradient, beta=beta)
    assert distance(got, want) < 5
    assert np.abs(want.mean).max() > 20 * want.error.max()  # else nothing is compared


@pytest.mark.parametrize("blocks", [1, 3])
def test_sticking_the_landing_is_unbiased_for_one_draw_and_biased_for_more(blocks):
    model, (params, _) = Chain(blocks), chain(blocks, wrong=0.3)
    of = partial(sampled, model, params)
    assert (
        distance(
            of(b.importance_weighted(1), "stl"),
            of(b.importance_weighted(1), "pathwise"),
        )
        < 5
    )
    assert distance(of(IWAE, "stl"), of(IWAE, "pathwise")) > 10


@pytest.mark.parametrize("blocks", [1, 3])
def test_without_score_the_exact_posterior_has_no_noise_at_all(blocks):
    """Every weight is p(x), whatever was drawn: no draw moves q."""
    model, (params, variance) = Chain(blocks), chain(blocks)
    for bound, gradient in ((b.importance_weighted(1), "stl"), (IWAE, "dreg")):
        found = gradients(model, params, bound, gradient)
        for name in ("a", "log_t"):
            assert np.abs(found[name]).max() < 200 * EPS, gradient
    noisy = gradients(model, params, IWAE, "pathwise")
    assert np.std(noisy["a"], axis=0).min() > 0.01
    loss = nn.apply(partial(objectives.weighted, bound=IWAE), model)
    want = scipy.stats.norm(0, np.sqrt(variance)).logpdf(X["x"]).mean()
    np.testing.assert_allclose(
        loss({"params": params}, X, KEY)[0], -want, rtol=50 * EPS
    )


def test_near_the_optimum_there_is_less_noise():
    model, (params, _) = Chain(1), chain(1, wrong=0.1)
    for bound, gradient in ((b.importance_weighted(1), "stl"), (IWAE, "dreg")):
        noise = gradients(model, params, bound, gradient)
        plain = gradients(model, params, bound, "pathwise")
        for name in ("a", "log_t"):
            assert np.std(noise[name]) < 0.5 * np.std(plain[name])


@functools.cache
def ratio(gradient, samples):
    params, _ = chain(1, wrong=0.1)
    moments = parallel.compile_function(
        gradient_moments,
        Chain(1),
        bound=b.importance_weighted(samples),
        gradient=gradient,
        draws=DRAWS,
    )({"params": params}, X, KEY)
    parts = ("a", "g")  # of q, and of p
    found = [ratios_of(moments.mean[n], moments.variance[n], DRAWS) for n in parts]
    return np.asarray(found)


def test_the_signal_of_q_drowns_in_more_samples_unless_it_is_doubly_reparameterized():
    """SNR ~ K^(-1/2) for q and K^(1/2) for p [Rainforth 2018, theorem 1]; dreg K^(1/2).

    From K = 4 to 64 a factor of 4; asymptotic, so that 2.5 must be passed.
    """
    plain = ratio("pathwise", 64) / ratio("pathwise", 4)
    doubly = ratio("dreg", 64) / ratio("dreg", 4)
    assert (plain[0] < 1 / 2.5).all()
    assert (doubly[0] > 2.5).all()
    assert (plain[1] > 2.5).all() and (doubly[1] > 2.5).all()


def test_moments_are_those_of_the_gradients():
    params, _ = chain(1, wrong=0.1)
    bound = b.importance_weighted(2)
    moments = parallel.compile_function(
        gradient_moments, Chain(1), bound=bound, gradient="stl", draws=5
    )({"params": params}, X, KEY)
    objective = partial(objectives.weighted, bound=bound, gradient="stl")

    def loss(params, key):
        return nn.apply(objective, Chain(1))({"params": params}, X, key)[0]

    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(5))
    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, keys)["a"]
    each = np.asarray(each, np.float64)
    np.testing.assert_allclose(moments.mean["a"], each.mean(0), atol=100 * EPS)
    want = each.var(0, ddof=1)
    np.testing.assert_allclose(moments.variance["a"], want, rtol=1e-4)
    snr, _ = ratios_of(moments.mean["a"], moments.variance["a"], 5)
    np.testing.assert_allclose(snr, np.abs(each.mean()) / each.std(ddof=1), rtol=1e-4)


@pytest.mark.slow
def test_the_table_of_ratios_is_that_of_the_programs(tmp_path):
    """By evaluate.py --what gradients, and from Python; noise alone is told."""
    experiment = small("iwae")
    state = first_state(experiment, parallel.make_mesh(1, 1))
    lab = Laboratory(
        examples=3, gradients=("dreg",), gradient_samples=(2,), gradient_draws=3
    )
    found = measure(experiment, state, ["gradients"], lab, folder=tmp_path)
    given = measurement_settings("gradients", lab, 5, 5)
    values = means_and_doubts("gradients", found, given)
    heads, rows = TABLES["gradients"](values)
    assert heads[3:] == ("K = 2",) and len(rows) == 4
    key = jax.random.fold_in(jax.random.key(0), OfRun.LABORATORY)
    key = jax.random.fold_in(jax.random.fold_in(key, OfLaboratory.GRADIENTS), 0)
    batch = {"x": jnp.asarray(held_out_examples(experiment, 3)["x"])}
    settings = {"samples": (2,), "gradients": ("dreg",), "draws": 3}
    for row in gradient_snr(experiment, state, batch, key, **settings):
        of_part = values["parts"][row.part]["dreg"]
        place = values["k"].index(row.samples)
        np.testing.assert_allclose(of_part["snr"][place], row.snr, rtol=1e-3)
        np.testing.assert_allclose(of_part["whole"][place], row.whole, rtol=1e-2)
    noise = 0.8 / np.sqrt(3)
    low = [r for each in values["parts"].values() for r in each["dreg"]["snr"]]
    assert bool(values["doubts"]) == (min(low) < 1.3 * noise)


def test_what_has_no_gradient_is_refused():
    gan = PRESETS["gan"](dataset="digits", hidden=(8,), latents=2)
    with pytest.raises(InputError, match="no encoder"):
        gradient_snr(gan, None, X, KEY)
    with pytest.raises(InputError, match="--gradient-samples is empty"):
        Laboratory(gradient_samples=())
    with pytest.raises(InputError, match="gradient-samples is 0"):
        Laboratory(gradient_samples=(0,))


ESTIMATORS = ("pathwise", "stl", "dreg", "vimco")


@pytest.mark.parametrize("blocks", [1, 3])
def test_all_estimators_are_of_the_same_number(blocks):
    model, (params, _) = Chain(blocks), chain(blocks, wrong=0.3)

    def values(model):
        of = partial(estimate, model, X, KEY, bound=IWAE, beta=0.7)
        return {name: of(gradient=name)[1] for name in ESTIMATORS}

    found = jax.jit(nn.apply(values, model))({"params": params})
    for name in ESTIMATORS:
        np.testing.assert_allclose(found[name], found["pathwise"], atol=200 * EPS)


def test_the_scale_of_a_loss_does_not_matter_to_the_hook():
    """A loss of a share of the batch, or of many terms, scales all its slopes."""
    params, _ = chain(1, wrong=0.3)
    objective = partial(objectives.weighted, bound=IWAE, gradient="dreg")

    def slopes(scale):
        def loss(params):
            return scale * nn.apply(objective, Chain(1))({"params": params}, X, KEY)[0]

        return jax.grad(loss)(params)

    one, many = jax.jit(lambda: (slopes(1.0), slopes(-1024.0)))()
    for name, slope in one.items():
        np.testing.assert_allclose(many[name], -1024 * slope, rtol=20 * EPS)
    none = jax.jit(lambda: slopes(0.0))()
    assert all((slope == 0).all() for slope in jax.tree.leaves(none))


def test_without_score_the_elbo_is_the_same_and_its_terms_sum_up():
    params, _ = chain(1, wrong=0.3)
    apply = nn.apply(
        partial(objectives.averaged_elbo, samples=3, gradient="stl"), Chain(1)
    )
    loss, terms = jax.jit(partial(apply, beta=2.0))({"params": params}, X, KEY)
    i = nn.apply(
        lambda m: estimate(m, X, KEY, bound=b.importance_weighted(3))[0], Chain(1)
    )({"params": params})
    np.testing.assert_allclose(loss, -i.tempered(2.0).mean(), rtol=20 * EPS)
    np.testing.assert_allclose(loss, terms["rate"] + terms["distortion"], rtol=4 * EPS)


# A prior of the encoder's own weights


def test_pseudo_inputs_keep_their_slope_in_the_encoder():
    """The encoder's weights are in q and in p: only the score of q is left out."""
    encoder = GaussianEncoder(net.FlatEncoder(net.MLP(())), 1)
    decoder = Decoder(net.FlatDecoder(net.MLP(()), (1,)), GaussianFixed(0.5))
    model = VAE(encoder, decoder, VampPrior(encoder, 2, unit=False))
    init = nn.init(objectives.iwae, model)
    params = jax.jit(lambda: init(KEY, X, KEY)["params"])()
    want = sampled(model, params, IWAE, "pathwise")
    assert distance(sampled(model, params, IWAE, "dreg"), want) < 5


# Discrete latents


class Bits(LatentModel):
    """Two bits z ~ Bernoulli(1/2) each, x ~ N(w z + c, 1), q(z | x) by two logits."""

    @nn.compact
    def terms(self, batch, source):
        start = nn.initializers.normal(1.0)
        a, c = self.param("a", start, (2,)), self.param("c", start, ())
        w = self.param("w", start, (2,))
        q = dist.Bernoulli(logits=batch["x"] * a[None])
        p = dist.Bernoulli(logits=jnp.zeros_like(batch["x"] * a[None]))
        z, log_q = source(Block("z", q, p))
        px = Normal((z @ w + c)[..., None], 1.0)
        return Inference(
            log_observed(px, batch), {"z": latent_term(q, p, z, log_q)}, px
        )


PARAMS = {"a": jnp.array([0.8, -0.5]), "c": jnp.array(0.3), "w": jnp.array([1.5, -1])}


@pytest.mark.parametrize("bound", [b.importance_weighted(2), b.renyi(3, 0.5)])
def test_vimco_is_the_gradient_of_the_enumerated_bound(bound):
    """The sum over all draws of their probability times the bound, differentiated."""
    codes = np.array(list(itertools.product((0.0, 1.0), repeat=2)), np.float32)
    every = np.array(list(itertools.product(range(4), repeat=bound.draws)))

    def exact(params):
        z = jnp.broadcast_to(codes[:, None], (4, 3, 2))
        weigh = nn.apply(lambda m: m.weigh({"z": z}, X), Bits())
        i = weigh({"params": params})  # [codes, batch]
        log_w, log_q = (jnp.moveaxis(a[every], 1, 0) for a in (i.log_w, i.log_qz))
        values = jax.vmap(bound.value, 1)(log_w)  # [all draws, batch]
        return -(jnp.exp(log_q.sum(0)) * values).sum(0).mean()

    want = jax.jit(jax.grad(exact))(PARAMS)
    found = sampled(Bits(), PARAMS, bound, "vimco", draws=20_000)
    assert distance(found, Sampled(entries(want), 0 * found.error)) < 5
    assert np.abs(want["a"]).min() > 10 * found.error.max()


@pytest.mark.parametrize("gradient", ["pathwise", "stl", "dreg"])
def test_discrete_draws_have_no_slope(gradient):
    with pytest.raises(InputError, match=f"{gradient} .* discrete: use vimco"):
        gradients(Bits(), PARAMS, IWAE, gradient, draws=2)


def test_a_model_of_missingness_is_refused():
    model = MissingVAE(nn.Dense(1), nn.Dense(1), StandardNormal(1), nn.Dense(1))
    with pytest.raises(InputError, match="--gradient dreg is not of a model of miss"):
        estimate(model, X, KEY, bound=IWAE, gradient="dreg")


def test_one_draw_and_kinks_are_refused():
    (params, _), one = chain(1), b.importance_weighted(1)
    with pytest.raises(InputError, match="--samples 2"):
        gradients(Chain(1), params, one, "vimco", draws=2)
    with pytest.raises(InputError, match="smooth bounds"):
        gradients(Chain(1), params, b.largest_weight(2), "dreg", draws=2)


# Presets


def small(name, **settings):
    common = {"dataset": "digits", "hidden": (8,), "latents": 2, "batch_size": 4}
    return PRESETS[name](**common | {"samples": 2, "epochs": 1} | settings)


def test_the_encoder_alone_is_trained_by_repeats():
    """Both players see the same draws, and each part has the gradient of its bound."""
    experiment = small("iwae", bound="partially", repeats=3, gradient="dreg")
    state = first_state(experiment, parallel.make_mesh(1, 1))
    raw = {n: a[:4] for n, a in experiment.dataset.split("train").items()}
    raw |= {"index": np.arange(4)}

    @jax.jit
    def slopes(state):
        batch = experiment.preprocess.apply(jax.tree.map(jnp.asarray, raw), KEY)
        found = {}
        for name, player in experiment.players.items():
            own, (terms, _) = own_gradient(experiment.model, player, state, batch, KEY)
            found[name] = own, terms
        for name, bound in (
            ("encoder", b.multiply_weighted(2, 3)),
            ("decoder", b.importance_weighted(6)),
        ):
            of = partial(objectives.weighted, bound=bound, gradient="dreg", beta=1.0)

            def loss(params, of=of):
                apply = nn.apply(of, experiment.model)
                return apply({"params": params, **state.stats}, batch, KEY)[0]

            found[f"{name} alone"] = jax.grad(loss)(state.params)
        return found

    found = slopes(state)
    for name in ("encoder", "decoder"):
        own, terms = found[name]
        assert [*own] == [name]
        np.testing.assert_allclose(
            entries(own), entries(found[f"{name} alone"][name]), atol=100 * EPS
        )
        assert terms["elbo"] == found["encoder"][1]["elbo"]
    assert found["decoder"][1]["bound"] > found["encoder"][1]["bound"]


WAYS = [
    {"bound": "multiply", "repeats": 2, "gradient": "dreg"},
    {"bound": "partially", "repeats": 2, "gradient": "dreg"},
    {"bound": "combination", "elbo_weight": 0.05, "gradient": "stl"},
    {"bound": "renyi", "order": 0.5, "gradient": "vimco"},
    {"bound": "max"},
]
OWN = {
    "iwae": {},
    "vae_two_layer": {"lower_hidden": (8,), "lower_latents": 2},
    "miwae": {"likelihood": "bernoulli", "hide": "mcar", "input_dropout": 0.5},
}


@pytest.mark.parametrize("name", OWN)
def test_every_bound_is_of_every_preset_of_several_draws(name):
    """Traced only; the selection is by the number that is trained."""
    for way in WAYS if name == "iwae" else WAYS[1::2]:
        experiment = small(name, **OWN[name], **way)
        raw = {n: a[:4] for n, a in experiment.dataset.split("train").items()}
        raw |= {"index": np.arange(4)}

        def slopes(state, experiment=experiment, raw=raw):
            batch = experiment.preprocess.apply(jax.tree.map(jnp.asarray, raw), KEY)
            return {
                name: own_gradient(experiment.model, player, state, batch, KEY)[0]
                for name, player in experiment.players.items()
            }

        found = jax.eval_shape(slopes, parallel.state_shapes(experiment))
        parts = [part for own in found.values() for part in own]
        assert sorted(parts) == sorted({*parts}) and "encoder" in parts
        assert experiment.selection({"bound": -3.0}) == 3.0
        assert ("biased" in " ".join(experiment.notes)) == ("stl" in way.values())
