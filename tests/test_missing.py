"""Objectives and models for missing data against what is known exactly."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from vaejax import from_arrays, objectives, presets, train
from vaejax.inference.gibbs import chain
from vaejax.inference.imputation import importance_imputation
from vaejax.inference.terms import infer
from vaejax.metrics.imputation import crps, interval
from vaejax.parallel import make_mesh
from vaejax.training.evaluator import evaluate
from vaejax.training.loop import first_state

D = 5
TINY = {"hidden": (6,), "latents": 2, "epochs": 1, "batch_size": 8}
NOT_MIWAE = ("self_masking", "high_missing", "low_missing", "linear", "neural")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2)) @ rng.normal(size=(2, D)) + rng.normal(size=(64, D))
    return from_arrays(x, x_test=x)


def model_of(experiment):
    """The model and fresh variables."""
    state = first_state(experiment, make_mesh(1, 1))
    return experiment.model, {"params": state.params, **state.stats}


def batch_of(mask=None, rows=8):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(rows, D)), jnp.float32)
    return {"x": x} if mask is None else {"x": jnp.where(mask == 1, x, 0), "mask": mask}


def some_mask(rows=8):
    return jnp.asarray(np.random.default_rng(2).random((rows, D)) < 0.6, jnp.float32)


def bound(model, variables, batch, samples=4, key=0):
    """The importance-weighted bound, nats."""
    run = nn.apply(objectives.iwae, model)
    return -run(variables, batch, jax.random.key(key), samples=samples)[0]


GRADIENTS = [
    *[("miwae", {"fill": fill}) for fill in ("zero", "constant", "mask")],
    *[("not_miwae", {"process": process}) for process in NOT_MIWAE],
    ("partial_vae", {}),
    ("vae", {}),
    ("vae_completion", {}),
]


@pytest.mark.parametrize(("preset", "settings"), GRADIENTS)
def test_what_is_stored_in_a_hole_has_no_gradient(preset, settings, table):
    """Exactly zero, whatever is stored there, NaN too; elsewhere there is one."""
    experiment = presets.PRESETS[preset](dataset=table, hide="mcar", **TINY, **settings)
    model, variables = model_of(experiment)
    (player,) = experiment.players.values()
    arrays = experiment.dataset.split("train")
    raw = {name: jnp.asarray(a[:8]) for name, a in arrays.items()}
    raw["index"] = jnp.arange(8)

    @jax.jit
    @jax.value_and_grad
    def graded(x):
        batch = experiment.preprocess.apply({**raw, "x": x}, jax.random.key(0))
        run = nn.apply(player.objective, model)
        return run(variables, batch, jax.random.key(1))[0]

    hole = np.asarray(raw["mask"]) == 0
    loss, gradient = jax.device_get(graded(raw["x"]))
    assert (gradient[hole] == 0).all()
    assert (gradient[~hole] != 0).any()
    assert graded(jnp.where(hole, jnp.nan, raw["x"]))[0] == loss


def test_miwae_with_nothing_missing_is_iwae(table):
    model, variables = model_of(presets.miwae(dataset=table, **TINY))
    whole, batch = batch_of(jnp.ones((8, D))), batch_of()
    assert bound(model, variables, whole) == bound(model, variables, batch)


@pytest.mark.parametrize("process", ["self_masking", "linear"])
def test_a_constant_missing_model_adds_a_constant(process, table):
    """not-MIWAE is then MIWAE plus log p(m), the same for every draw."""
    mask = some_mask()
    not_miwae, variables = model_of(
        presets.not_miwae(dataset=table, process=process, **TINY)
    )
    flat = jax.tree.map(jnp.zeros_like, variables["params"]["missing"])
    logits = jnp.zeros(D)
    if process == "linear":
        logits = jnp.linspace(-1, 1, D)
        flat = {"Dense_0": {**flat["Dense_0"], "bias": logits}}
    variables["params"]["missing"] = flat
    likelihood = "gaussian_pixel"
    miwae, _ = model_of(presets.miwae(dataset=table, likelihood=likelihood, **TINY))
    own = {n: p for n, p in variables["params"].items() if n != "missing"}
    log_pm = jnp.where(mask == 1, nn.log_sigmoid(logits), nn.log_sigmoid(-logits))
    with jax.numpy_rank_promotion("allow"):
        expected = bound(miwae, {"params": own}, batch_of(mask)) + log_pm.sum(1).mean()
    found = bound(not_miwae, variables, batch_of(mask))
    assert found == pytest.approx(float(expected), abs=1e-4)  # float32 sums of ~10


def test_the_mask_enters_every_objective_of_inference(table):
    """`log_px` of a model of missingness is log p(x_observed | z) + log p(m | x)."""
    experiment = presets.not_miwae(dataset=table, process="high_missing", **TINY)
    model, variables = model_of(experiment)
    batch, key = batch_of(some_mask()), jax.random.key(0)
    with_mask = nn.apply(infer, model)(variables, batch, key, 3)
    plain = with_mask.px.log_prob(batch["x"][None])
    plain = jnp.where(batch["mask"][None] == 1, plain, 0).sum(-1)
    assert bool((with_mask.log_px < plain).all())  # a probability of a mask is below 1


# A linear-Gaussian VAE, of which all conditionals are known.
W = np.array([[1.0, 0.5, 0.0, -1.0, 0.3], [0.0, 1.0, -0.7, 0.4, 0.8]])
B = np.array([0.5, -0.2, 0.0, 1.0, 0.1])
SIGMA = 0.5
COVARIANCE = W.T @ W + SIGMA**2 * np.eye(D)


@pytest.fixture(scope="module")
def linear(table):
    """The model with a prior as its proposal, so that no part of it is fitted."""
    model, variables = model_of(
        presets.miwae(dataset=table, body="linear", likelihood="gaussian", **TINY)
    )
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["decoder"]["body"]["Dense_0"] = {
        "kernel": jnp.array(W),
        "bias": jnp.array(B),
    }
    params["decoder"]["likelihood"]["log_sigma"] = jnp.log(SIGMA)
    return model, {"params": jax.tree.map(lambda a: a.astype(jnp.float32), params)}


def drawn(rows, seed=0):
    """Examples of the model, and masks under which two entries at least are seen."""
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(B, COVARIANCE, rows)
    mask = rng.random((rows, D)) < 0.5
    mask[:, :2] |= ~mask.any(1, keepdims=True)
    return x, mask


def conditional(x, seen):
    """Mean and variance of every entry given those that are seen."""
    o, mean, variance = np.flatnonzero(seen), x.copy(), np.zeros(D)
    m = np.flatnonzero(~seen)
    gain = COVARIANCE[np.ix_(m, o)] @ np.linalg.inv(COVARIANCE[np.ix_(o, o)])
    mean[m] = B[m] + gain @ (x[o] - B[o])
    variance[m] = np.diag(COVARIANCE[np.ix_(m, m)] - gain @ COVARIANCE[np.ix_(o, m)])
    return mean, variance


def conditionals(x, mask):
    """Of many examples: `[rows, D]` each."""
    return np.stack([conditional(*r) for r in zip(x, mask, strict=True)], axis=1)


def dense(kernel, bias):
    return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}


def holey(x, mask):
    seen = jnp.asarray(mask, jnp.float32)
    return {"x": jnp.where(mask, jnp.asarray(x, jnp.float32), 0), "mask": seen}


def test_imputations_are_the_exact_conditional_mean(linear):
    x, mask = drawn(60)
    found = importance_imputation(
        *linear, holey(x, mask), jax.random.key(0), samples=20_000, draws=1, chunk=1000
    )
    exact, variance = conditionals(x, mask)
    # The error of a weighted mean of E[x | z] is below that of draws of x.
    error = np.sqrt(variance / np.asarray(found.ess)[:, None])
    assert (np.abs(found.mean - exact)[~mask] < 5 * error[~mask]).all()
    log_p = [
        multivariate_normal(B[s], COVARIANCE[np.ix_(s, s)]).logpdf(row[s])
        for row, s in zip(x, mask, strict=True)
    ]
    spread = 5 / np.sqrt(np.asarray(found.ess))
    assert (np.abs(found.log_evidence - np.array(log_p)) < spread).all()


def test_intervals_cover_the_truth_and_draws_have_the_right_law(linear):
    x, mask = drawn(600, seed=1)
    found = importance_imputation(
        *linear, holey(x, mask), jax.random.key(1), samples=2000, draws=199, chunk=500
    )
    assert np.array_equal(
        np.asarray(found.draws)[:, mask], np.tile(x[mask].astype(np.float32), (199, 1))
    )
    low, high = map(np.asarray, interval(found.draws))
    covered = ((low <= x) & (x <= high))[~mask]
    assert 0.93 < covered.mean() < 0.97  # 1,500 entries: standard error 0.006
    exact, variance = conditionals(x, mask)
    z = ((np.asarray(found.draws) - exact) / np.sqrt(np.maximum(variance, 1e-9)))[
        :, ~mask
    ]
    assert abs(z.mean()) < 0.05  # of the order of 1 / sqrt(least ess) / sqrt(entries)
    assert abs(z.var() - 1) < 0.05


def test_completions_without_noise_vary_as_the_means_given_z(linear):
    x, mask = drawn(600, seed=1)
    settings = {"samples": 2000, "draws": 199, "chunk": 500, "noise": False}
    found = importance_imputation(
        *linear, holey(x, mask), jax.random.key(1), **settings
    )
    exact, variance = conditionals(x, mask)
    expected = np.sqrt(variance[~mask] - SIGMA**2)
    z = (np.asarray(found.draws) - exact)[:, ~mask] / expected
    assert abs(z.mean()) < 0.05  # as above
    assert abs(z.var() - 1) < 0.05


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_chains_have_the_exact_law_unless_pseudo_gibbs_errs(accept, shift, linear):
    """The encoder is the exact posterior where the columns of W are orthogonal; where
    it is shifted, only Metropolis within Gibbs corrects it.
    """
    model, variables = linear
    w = np.array([[1.0, 0.5, 0.0, -1.0, 0.0], [0.0, 1.0, -0.7, 0.5, 0.8]])
    assert np.dot(*w) == 0
    precision = (w**2).sum(1) / SIGMA**2 + 1
    kernel = (w / SIGMA**2 / precision[:, None]).T
    log_variance = -np.log(precision)
    params = jax.tree.map(lambda a: a, variables["params"])
    params["decoder"]["body"]["Dense_0"] = {
        "kernel": jnp.array(w),
        "bias": jnp.array(B),
    }
    params["encoder"]["Dense_0"] = dense(
        np.concatenate([kernel, np.zeros((D, 2))], 1),
        np.concatenate([-B @ kernel + shift, log_variance]),
    )
    variables = {"params": jax.tree.map(lambda a: a.astype(jnp.float32), params)}
    rows = 2000
    x, seen = np.array([1.5, 0.3, 0.0, 0.0, 0.0]), np.array([1, 1, 0, 0, 0], bool)
    batch = holey(np.tile(x, (rows, 1)), np.tile(seen, (rows, 1)))
    found = chain(
        model, variables, batch, jax.random.key(0), samples=300, draws=1, accept=accept
    )
    covariance = w.T @ w + SIGMA**2 * np.eye(D)
    o, m = np.flatnonzero(seen), np.flatnonzero(~seen)
    gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    mean = B[m] + gain @ (x[o] - B[o])
    variance = np.diag(covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)])
    error = (np.asarray(found.draws)[0][:, m].mean(0) - mean) / np.sqrt(variance / rows)
    right = accept or shift == 0
    assert (np.abs(error) < 4.5).all() == right


def test_crps_is_that_of_a_gaussian():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    draws = jnp.asarray(rng.normal(size=(199, 400)))
    exact = truth * (2 * norm.cdf(truth) - 1) + 2 * norm.pdf(truth) - np.pi**-0.5
    found = np.asarray(crps(draws, jnp.asarray(truth)))
    # An estimate's standard deviation is about 0.05 with 199 draws; of 400: 0.0025.
    assert abs((found - exact).mean()) < 0.01
    assert np.abs(found - exact).max() < 0.3


def test_training_on_holes_reports_how_imputations_did():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 1)) @ np.ones((1, D)) + 0.1 * rng.normal(size=(800, D))
    x[rng.random(x.shape) < 0.1] = np.nan
    experiment = presets.miwae(
        dataset=from_arrays(x),
        hide="mcar",
        hide_rate=0.3,
        hidden=(16,),
        latents=2,
        epochs=40,
        evaluate_every=40,
        batch_size=64,
        learning_rate=1e-2,
    )
    state = train(experiment, quiet=True, devices=1)
    found = evaluate(experiment, state, samples=100)
    assert all(np.isfinite(value) for value in found.values())
    assert found["rmse"] < 0.5  # the mean would give 1; other columns tell almost all
    assert 0.8 < found["coverage"] <= 1
    assert found["crps"] < found["rmse"]
    assert 1 <= found["ess"] <= 100
