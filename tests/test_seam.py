"""Models beyond one elementwise block of latents, and all that is done with a model.

Densities of latents may be joint, posteriors flows, and latents may lie in two layers:
each passes through every use unchanged, and each is held to a linear-Gaussian truth.
"""

import dataclasses
import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro.distributions.transforms import LowerCholeskyAffine
from scipy.special import logsumexp

import vaejax
from vaejax import InputError, infer, objectives, parallel, plots
from vaejax import distributions as d
from vaejax.apply.capabilities import latent_shape
from vaejax.apply.impute import impute
from vaejax.data.preprocess import blank
from vaejax.experiment import variables_of
from vaejax.export.functions import functions
from vaejax.metrics import active_units, importance_log_likelihood, nll
from vaejax.models import (
    VAE,
    GaussianEncoder,
    MixturePrior,
    StandardNormal,
    TwoLayerVAE,
)
from vaejax.nn import networks as net
from vaejax.presets import PRESETS
from vaejax.training.loop import first_state
from vaejax.training.step import init, own_gradient

KEY = jax.random.key(7)
EPS = np.finfo(np.float32).eps
LATENTS = ROWS = 8  # equal, so that a sum over the wrong axis has no wrong shape


# The truth: linear Gaussians


class Fixed(nn.Module):
    """A part that is a function of its arguments."""

    function: Any

    def __call__(self, *arguments):
        return self.function(*arguments)


rng = np.random.default_rng(0)
D, L, T = 5, 3, 2
W, A = rng.normal(size=(D, L)), rng.normal(size=(L, T))
SIGMA, S1 = 0.6, 0.5
B = rng.normal(size=D)
X = rng.normal(size=(ROWS, D)).astype(np.float32)
BATCH = {"x": jnp.asarray(X)}
ROUNDING = 200 * EPS
"""Log densities here are sums of some ten terms of size up to twenty."""


def normal(loc, scale):
    loc = jnp.asarray(loc, jnp.float32)
    return d.Normal(loc, jnp.broadcast_to(jnp.asarray(scale, jnp.float32), loc.shape))


def decoder(z, batch):
    return normal(z @ W.T.astype(np.float32) + B[None, None].astype(np.float32), SIGMA)


def conditional_of(covariance, matrix, noise):
    """Matrix and covariance of p(z | y): y = matrix z + noise, z ~ N(0, covariance)."""
    precision = np.linalg.inv(covariance) + matrix.T @ matrix / noise**2
    posterior = np.linalg.inv(precision)
    return posterior @ matrix.T / noise**2, posterior


def flow_posterior(gain, covariance):
    """N(gain (x - b), covariance) as an affine transformation of a standard normal."""
    cholesky = jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)

    def encoder(batch):
        loc = (batch["x"] - B[None].astype(np.float32)) @ gain.T.astype(np.float32)
        base = dist.Independent(normal(jnp.zeros_like(loc), 1.0), 1)
        each = jnp.broadcast_to(cholesky, (*loc.shape, loc.shape[-1]))
        return dist.TransformedDistribution(
            base, LowerCholeskyAffine(loc, each), validate_args=False
        )

    return encoder


def exact_flow():
    gain, covariance = conditional_of(np.eye(L), W, SIGMA)
    encoder = Fixed(flow_posterior(gain, covariance))
    return VAE(encoder, Fixed(decoder), StandardNormal(L))


def two_layers(exact=True):
    """z2 ~ N(0, I), z1 ~ N(A z2, S1^2), x ~ N(W z1 + b, SIGMA^2), inferred exactly."""
    marginal = A @ A.T + S1**2 * np.eye(L)
    gain, covariance = conditional_of(marginal, W, SIGMA)
    up, top = conditional_of(np.eye(T), A, S1)
    cholesky = jnp.asarray(np.linalg.cholesky(top), jnp.float32)

    def wider(batch):
        q = flow_posterior(gain, covariance)(batch)
        return q if exact else normal(q.transforms[-1].loc, 1.0)

    def top_encoder(z1):
        loc = z1 @ up.T.astype(np.float32)
        base = dist.Independent(normal(jnp.zeros_like(loc), 1.0), 1)
        return dist.TransformedDistribution(
            base,
            LowerCholeskyAffine(loc, jnp.broadcast_to(cholesky, (*loc.shape, T))),
            validate_args=False,
        )

    def top_decoder(z2):
        return normal(z2 @ A.T.astype(np.float32), S1)

    parts = (wider, top_encoder, decoder, top_decoder)
    return TwoLayerVAE(*map(Fixed, parts), StandardNormal(T))


def log_marginal(covariance):
    return scipy.stats.multivariate_normal(B, covariance).logpdf(X)


def inferred(model, samples):
    keys = jax.random.split(KEY, samples)
    return jax.jit(lambda: model.apply({}, BATCH, keys, method="infer"))()


COVARIANCE = W @ W.T + SIGMA**2 * np.eye(D)
DEEP = W @ (A @ A.T + S1**2 * np.eye(L)) @ W.T + SIGMA**2 * np.eye(D)


@pytest.mark.parametrize(
    ("model", "covariance"), [(exact_flow(), COVARIANCE), (two_layers(), DEEP)]
)
def test_with_the_exact_posterior_every_weight_is_the_evidence(model, covariance):
    """w = p(x, z) / p(z | x) = p(x), whatever was drawn."""
    want = log_marginal(covariance)
    log_w = np.asarray(inferred(model, 20).log_w)
    np.testing.assert_allclose(log_w, np.tile(want, (20, 1)), atol=40 * ROUNDING)
    found = importance_log_likelihood(model, {}, BATCH, KEY, 30)
    np.testing.assert_allclose(found.log_p, want, atol=40 * ROUNDING)
    np.testing.assert_allclose(found.ess, 30, rtol=0.01)


def test_the_divergences_of_two_layers_make_the_elbo():
    """E[log p(x | z1) - KL] = E[log w]; with the analytic KL(q(z1 | x) || p(z1 | z2)),
    whose z2 was drawn given z1, it would be another number.
    """
    i = inferred(two_layers(exact=False), 20_000)
    both = np.asarray(i.log_px - i.kl - i.log_w, np.float64)
    error = both.std(0, ddof=1) / np.sqrt(len(both))
    assert (np.abs(both.mean(0)) <= 5 * error + ROUNDING).all()
    z2, q1 = np.asarray(i.latents["z2"].z), i.latents["z1"].q
    loc = z2 @ A.T
    var = np.asarray(q1.variance)
    wrong = 0.5 * (var + (np.asarray(q1.mean) - loc) ** 2) / S1**2 - 0.5
    wrong = (wrong + np.log(S1 / np.sqrt(var))).sum(-1)
    right = np.asarray(i.latents["z1"].kl.sum(-1))
    gap = wrong.mean(0) - right.mean(0)
    noise = (wrong - right).std(0, ddof=1) / np.sqrt(len(right))
    assert (np.abs(gap) > 10 * noise).all()


def test_draws_do_not_depend_on_how_many_there_are():
    few, many = inferred(two_layers(), 2), inferred(two_layers(), 5)
    for name in ("z1", "z2"):
        got, want = many.latents[name].z[:2], few.latents[name].z
        np.testing.assert_allclose(got, want, rtol=20 * EPS, atol=20 * EPS)


@pytest.mark.parametrize("model", [exact_flow(), two_layers(exact=False)])
def test_the_same_latents_weigh_the_same_given_or_drawn(model):
    """All blocks by name; the flow is inverted where its value is given."""
    i = inferred(model, 3)
    z = {name: term.z for name, term in i.latents.items()}
    given = jax.jit(lambda: model.apply({}, z, BATCH, method="weigh"))()
    np.testing.assert_allclose(given.log_w, i.log_w, atol=40 * ROUNDING)


def test_ancestral_draws_have_the_models_covariance():
    keys = jax.random.split(KEY, 4000)
    z1 = two_layers().apply({}, BATCH, keys, method="draw_prior")
    z1 = np.asarray(z1, np.float64).reshape(-1, L)
    want = A @ A.T + S1**2 * np.eye(L)
    # The variance of a sample covariance: (c_ii c_jj + c_ij^2) / n.
    error = np.sqrt((np.outer(np.diag(want), np.diag(want)) + want**2) / len(z1))
    assert (np.abs(np.cov(z1.T) - want) < 5 * error).all()


# Joint priors


def prior_of(module, variables, batch=BATCH):
    return module.apply(variables, batch)


def test_the_mixture_is_a_joint_density():
    module = MixturePrior(LATENTS, 4)
    logits, means = rng.normal(size=4), rng.normal(size=(4, LATENTS))
    log_scales = rng.normal(size=(4, LATENTS)) / 2
    params = {"logits": logits, "means": means, "log_scales": log_scales}
    p = prior_of(module, {"params": jax.tree.map(jnp.float32, params)})
    z = rng.normal(size=(3, ROWS, LATENTS)).astype(np.float32)
    each = scipy.stats.norm(means, np.exp(log_scales)).logpdf(z[..., None, :]).sum(-1)
    want = logsumexp(each + logits - logsumexp(logits), axis=-1)
    np.testing.assert_allclose(jax.vmap(p.log_prob)(z), want, rtol=100 * EPS)


def test_the_pseudo_inputs_give_the_mixture_of_the_posteriors():
    """log 1/K sum_k q(z | u_k), computed from the encoder alone [eq. 9]."""
    experiment = small("vae", prior="vamp", components=3)
    variables = state_of(experiment)
    model, x = experiment.model, jnp.full((ROWS, 8, 8, 1), 0.3)

    def terms(model):
        i = infer(model, {"x": x}, KEY, 2)
        u = nn.sigmoid(model.variables["params"]["prior"]["inputs"])
        return i, model.posterior({"x": u})

    i, q = jax.jit(nn.apply(terms, model))(variables)
    term = i.latents["z"]
    each = scipy.stats.norm(q.loc, q.scale).logpdf(np.asarray(term.z)[..., None, :])
    want = logsumexp(each.sum(-1), axis=-1) - np.log(3)
    np.testing.assert_allclose(term.log_p, want, rtol=200 * EPS)
    np.testing.assert_allclose(term.kl[..., 0], term.log_q - term.log_p, atol=ROUNDING)
    assert term.kl.shape == (2, ROWS, 1)


def test_pseudo_inputs_and_encoder_learn_by_the_prior():
    """The encoder's weights are of one part, and their slope is of both uses."""
    experiment = small("vae", prior="vamp", components=3)
    variables = state_of(experiment)
    assert [*variables["params"]["prior"]] == ["inputs"]
    batch = {"x": jnp.full((ROWS, 8, 8, 1), 0.3)}

    def log_prior(params):
        def value(model):
            return model.prior(batch).log_prob(jnp.ones((ROWS, LATENTS))).sum()

        return nn.apply(value, experiment.model)({"params": params})

    slopes = jax.jit(jax.grad(log_prior))(variables["params"])
    for part in ("encoder", "prior"):
        assert max(float(jnp.abs(s).max()) for s in jax.tree.leaves(slopes[part])) > 0


def test_a_density_over_the_batch_is_an_error():
    whole = dist.Independent(normal(jnp.zeros((ROWS, L)), 1.0), 2)
    model = VAE(exact_flow().encoder, Fixed(decoder), Fixed(lambda batch: whole))
    with pytest.raises(TypeError, match="its batch shape must begin with the batch"):
        model.apply({}, BATCH, jax.random.split(KEY, 3), method="infer")


def test_components_without_a_mixture_are_an_error():
    with pytest.raises(
        InputError, match="--components is only for --prior mixture or vamp"
    ):
        small("vae", components=4)


# Every use of a model


def small(name, **settings):
    common = {"dataset": "digits", "latents": LATENTS, "batch_size": ROWS, "epochs": 1}
    if "hidden" in inspect.signature(PRESETS[name]).parameters:
        common["hidden"] = (8,)
    return PRESETS[name](**common | settings)


def state_of(experiment):
    return variables_of(first_state(experiment, parallel.make_mesh(1, 1)))


class Flow(dist.TransformedDistribution):
    """A flow, for which the image of the base's mean stands where a mean is wanted."""

    @property
    def mean(self):
        z = self.base_dist.mean
        for transform in self.transforms:
            z = transform(z)
        return z

    @property
    def variance(self):
        return jnp.ones_like(self.mean)


class FlowEncoder(nn.Module):
    """q(z | x): the encoder's Gaussian with a learned triangular transformation."""

    encoder: nn.Module

    @nn.compact
    def __call__(self, batch):
        q = self.encoder(batch)
        raw = self.param("raw", nn.initializers.normal(0.1), (LATENTS, LATENTS))
        tril = jnp.tril(raw, -1) + jnp.eye(LATENTS)
        base = dist.Independent(q, 1, validate_args=False)
        affine = LowerCholeskyAffine(jnp.zeros((1, LATENTS)), tril[None])
        return Flow(base, affine, validate_args=False)


def with_flow():
    experiment = small("vae")
    model = experiment.model.clone(encoder=FlowEncoder(experiment.model.encoder))
    return dataclasses.replace(experiment, model=model)


def with_maps():
    """Latents are a map 2 x 2 x 2, between convolutions without dense layers."""
    experiment = small("vae")
    stages = {"channels": (3, 4), "hidden": None}
    model = experiment.model.clone(
        encoder=GaussianEncoder(net.ConvEncoder(**stages), 2),
        decoder=experiment.model.decoder.clone(
            body=net.ConvDecoder((8, 8, 1), **stages)
        ),
        prior=StandardNormal((2, 2, 2)),
    )
    return dataclasses.replace(experiment, model=model)


MODELS = {
    "one block": lambda: small("vae"),
    "mixture": lambda: small("vae", prior="mixture"),
    "vamp": lambda: small("vae", prior="vamp", components=3),
    "vamp of holes": lambda: small("not_miwae", prior="vamp", binarize="none"),
    "flow": with_flow,
    "full under vamp": lambda: small(
        "vae", prior="vamp", components=3, posterior="full"
    ),
    "iaf under maf": lambda: small(
        "vae", prior="maf", posterior="iaf", flow_layers=2, flow_hidden=8
    ),
    "sylvester under realnvp": lambda: small(
        "vae", prior="realnvp", posterior="sylvester", flow_layers=2, flow_hidden=8
    ),
    "categories": lambda: small("vae", posterior="categorical", category_values=3),
    "maps": with_maps,
    "two layers": lambda: small("vae_two_layer", lower_latents=8, lower_hidden=(8,)),
}


SLOW = ("iaf under maf", "sylvester under realnvp")
NAMED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in MODELS
]


@pytest.fixture(scope="module", params=NAMED)
def run(request):
    """An experiment, its first state, and eight examples."""
    experiment = MODELS[request.param]()
    x = experiment.dataset.split("test")["x"][:ROWS].reshape(ROWS, 8, 8, 1)
    x = np.round(x / np.float32(255))
    return experiment, first_state(experiment, parallel.make_mesh(1, 1)), x


def measured(metric, run):
    experiment, state, x = run
    batch = {"x": jnp.asarray(x), "weight": jnp.ones(ROWS)}
    acc = metric.update(
        metric.init(), experiment.model, variables_of(state), batch, KEY
    )
    return metric.compute(acc)


def optimized(objective):
    def use(run):
        experiment, state, x = run
        variables = variables_of(state)

        def loss(params):
            given = {**variables, "params": params}
            return nn.apply(objective, experiment.model)(
                given, {"x": jnp.asarray(x)}, KEY
            )[0]

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    return use


def imputed(run):
    experiment, state, x = run
    mask = np.ones_like(x)
    mask[:, 4:] = 0
    found = impute(experiment, state, x, mask, KEY, multiple=2, samples=5)
    np.testing.assert_array_equal(found.single[mask == 1], x[mask == 1])
    return found.single, found.draws, found.ess


def exported(run):
    experiment, state, x = run
    asks = functions(experiment, state, samples=3)
    assert set(asks) == {"encode", "decode", "sample", "log_likelihood"}
    values = {"x": jnp.asarray(x), "key": jax.random.key_data(KEY)}
    return asks["log_likelihood"].answer(experiment, state, values)


def drawn(run):
    for draw in (plots.samples, plots.reconstructions, plots.traversal, plots.latents):
        assert draw(*run[:2]).axes
    return np.zeros(())


USES = {
    "elbo": optimized(objectives.elbo),
    "iwae": optimized(objectives.iwae),
    "nll": lambda run: measured(nll(7, log_bin=0.0), run),
    "active units": lambda run: measured(active_units(latent_shape(*run[:2])), run),
    "encode": lambda run: vaejax.encode(*run).mean,
    "reconstruct": lambda run: vaejax.reconstruct(*run),
    "sample": lambda run: vaejax.sample(*run[:2], KEY, 3),
    "log_likelihood": lambda run: vaejax.log_likelihood(*run, KEY, 5),
    "impute": imputed,
    "plots": drawn,
    "export": exported,
}


@pytest.mark.parametrize("use", USES)
def test_every_model_passes_through_every_use(run, use):
    found = USES[use](run)
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(np.asarray(leaf)).all()


def test_a_chain_that_weighs_latents_needs_one_block(run):
    experiment, state, x = run
    mask = np.ones_like(x)
    mask[:, 4:] = 0
    ask = {"samples": 4, "method": "metropolis"}
    if "two_layer" in experiment.name:
        with pytest.raises(InputError, match="several blocks of latents"):
            impute(experiment, state, x, mask, KEY, **ask)
        ask["method"] = "pseudo_gibbs"
    found = impute(experiment, state, x, mask, KEY, **ask)
    assert np.isfinite(found.single).all()


WITH_PRIOR = [n for n in PRESETS if "prior" in inspect.signature(PRESETS[n]).parameters]
SETTINGS = {
    "info_vae": {"alpha": 0.5},  # 1 has no KL, by which weights of mixtures learn
    "vae_conv": {"channels": (4, 8)},
    "vae_residual_large": {"channels": (4,), "blocks": 1, "precision": "f32"},
    "miwae": {"likelihood": "bernoulli", "samples": 2},
    "not_miwae": {"binarize": "none", "samples": 2},
    "partial_vae": {"likelihood": "bernoulli"},
    "vae_two_layer": {"lower_hidden": (8,), "lower_latents": 4},
    "vae_tomczak": {"validation": 100},
    "vae_sylvester": {"channels": (3, 4)},
    "hvae_tomczak": {"validation": 100, "lower_latents": 2},
    "ladder_vae": {
        "lower_latents": (4,),
        "layer_hidden": (8, 6),
        "norm": "none",
        # In the warm-up nothing reaches the prior at first.
        "schedule": "constant",
    },
    "ladder_vae_conv": {
        "channels": 2,
        "layers": 2,
        "layer_blocks": 1,
        "norm": "none",
        "skip_connections": False,
        "free_bits": 0.0,  # below which nothing reaches the prior
    },
}


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
@pytest.mark.parametrize("name", WITH_PRIOR)
def test_a_prior_is_an_option_of_every_preset_with_an_elbo(name, prior):
    """Conditional and missing-data ones too; the player owns what the prior learns."""
    settings = {**SETTINGS.get(name, {}), "prior": prior, "components": 2}
    if (name, prior) == ("vae_two_layer", "vamp"):
        with pytest.raises(InputError, match="choose --prior mixture"):
            small(name, **settings)
        return
    experiment = small(name, **settings)
    (player,) = (p for p in experiment.players.values() if "prior" in p.owns)
    split = experiment.dataset.split("train")
    raw = {n: a[:ROWS] for n, a in split.items()} | {"index": np.arange(ROWS)}

    @jax.jit
    def slopes_at(state):
        batch = experiment.preprocess.apply(jax.tree.map(jnp.asarray, raw), KEY)
        return own_gradient(experiment.model, player, state, batch, KEY)

    slopes, (terms, _) = slopes_at(some_state(experiment))
    assert np.isfinite(jax.tree.leaves(terms)).all()
    largest = [float(np.abs(slope).max()) for slope in jax.tree.leaves(slopes)]
    assert np.isfinite(largest).all()
    assert min(float(np.abs(s).max()) for s in jax.tree.leaves(slopes["prior"])) > 0


def some_state(experiment):
    """A state of random parameters, which needs no compiled initialization."""
    draws = np.random.default_rng(0)

    def fill(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(draws.normal(0, 0.1, leaf.shape), leaf.dtype)
        return jnp.zeros(leaf.shape, leaf.dtype)

    raw = blank(experiment.dataset.spec, ROWS)
    return jax.tree.map(fill, jax.eval_shape(lambda: init(experiment, KEY, raw)))


def test_the_presets_that_take_a_prior():
    assert {"vae", "beta_vae", "annealed_vae", "iwae", "cvae"} < set(WITH_PRIOR)
    assert {"miwae", "not_miwae", "partial_vae", "vae_two_layer"} < set(WITH_PRIOR)
