"""Bounds, likelihoods and numbers per dimension are of one event, and say when not
to be trusted.
"""

import dataclasses
import math
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import genpareto

from tests.test_inference import LinearGaussian, parameters, variables
from vaejax import evaluate, from_arrays, presets
from vaejax.cli.tables import markdown
from vaejax.inference.imputation import importance_imputation
from vaejax.inference.latents import draw_keys
from vaejax.metrics import elbo_terms, importance_log_likelihood, nll
from vaejax.metrics.base import merge, moments, ratio
from vaejax.metrics.weights import distrust, pareto_khat, tail_length
from vaejax.models.likelihoods import GaussianOptimal
from vaejax.parallel import make_mesh
from vaejax.sweeps.replicas import Replica
from vaejax.sweeps.summary import summarize
from vaejax.training.loop import first_state

TINY = {"hidden": (6,), "latents": 2, "epochs": 1, "batch_size": 8}
KEY = jax.random.key(3)


def of_preset(make, data=None, **settings):
    """A preset's fresh model, its variables and a batch of 32 examples."""
    x = np.random.default_rng(0).normal(size=(64, 5))
    experiment = make(dataset=data or from_arrays(x, x_test=x), **TINY | settings)
    state = first_state(experiment, make_mesh(1, 8))
    arrays = experiment.dataset.split("train")
    raw = {name: jnp.asarray(a[:32]) for name, a in arrays.items()}
    raw["index"] = jnp.arange(32)
    batch = experiment.preprocess.apply(raw, KEY)
    return experiment.model, {"params": state.params, **state.stats}, batch


def test_the_likelihood_of_a_model_of_missingness_is_of_the_mask_too():
    """It is what imputation calls the evidence, from the same draws."""
    model, state, batch = of_preset(presets.not_miwae, hide="mcar")
    own_key = jax.random.split(KEY)[1]  # the one that `impute` draws latents with
    found = importance_log_likelihood(model, state, batch, own_key, samples=60)
    evidence = importance_imputation(
        model, state, batch, KEY, samples=60, draws=1
    ).log_evidence
    np.testing.assert_allclose(found.log_p, evidence, rtol=1e-5, atol=1e-5)


def test_of_one_draw_the_mean_is_its_completion_or_that_given_its_latents():
    """The former is what a weight with p(m | x) in it is of, the latter E[x | z]."""
    model, state, batch = of_preset(presets.not_miwae, hide="mcar")
    one = partial(importance_imputation, model, state, batch, KEY, samples=1, draws=1)
    drawn, given = one(), one(of_means=True)
    np.testing.assert_array_equal(drawn.mean, drawn.draws[0])
    np.testing.assert_array_equal(given.draws, drawn.draws)
    keys = draw_keys(jax.random.split(KEY)[1], jnp.arange(1))
    px = model.apply(state, batch, keys, method="impute").px
    np.testing.assert_allclose(given.mean, px.mean[0], rtol=1e-6, atol=1e-6)
    assert np.any(given.mean != drawn.mean)


def test_bits_are_divided_by_the_numbers_that_are_scored():
    model, state, batch = of_preset(presets.vae_completion, hide="mcar")
    metric = nll(5, log_bin=0.0)
    acc = metric.update(metric.init(), model, state, batch | {"weight": ONES}, KEY)
    values = metric.compute(acc)
    counts = np.asarray(batch["mask"] * (1 - batch["seen"])).sum(1)
    assert 0 < counts.mean() < 4
    bits = values["nll"] / counts.mean() / math.log(2)
    np.testing.assert_allclose(values["bits_per_dim"], bits, rtol=1e-5)


ONES = jnp.ones(32)
PIXELS = np.random.default_rng(2).integers(0, 2, (64, 4, 4)).astype(np.uint8) * 255
LABELS = np.arange(64) % 3
BITS = from_arrays(PIXELS, LABELS, PIXELS, LABELS)
HIDES = {"hide": "mnar", "hide_rate": 0.4}
BOUNDED = {
    "vae": {},
    "vae of bits": {"data": BITS},
    "cvae": {"data": BITS},
    "not_miwae": HIDES,
    "vae_completion": HIDES,
    "cvae_sohn": {"data": BITS},
}


@pytest.mark.parametrize("case", BOUNDED)
def test_an_elbo_is_below_the_likelihood_of_what_it_bounds(case):
    """Their gap is KL(q(z | x) || p(z | x)), less what 50 draws miss of log p(x); it is
    above 0, as the posterior of an untrained encoder has not the decoder's.
    """
    make = presets.PRESETS[case.split()[0]]
    model, state, batch = of_preset(make, **BOUNDED[case])

    def each(metric, key):
        """Its values of every example: weighted means of one alone."""

        def alone(weight):
            of_one = {**batch, "weight": weight}
            acc = metric.update(metric.init(), model, state, of_one, key)
            return metric.compute(acc)

        return jax.vmap(alone)(jnp.eye(32))

    @jax.jit
    @jax.vmap
    def gaps(key):
        bound, likelihood = jax.random.split(key)
        elbo = each(elbo_terms(), bound)["elbo"]
        return -each(nll(50, log_bin=0.0), likelihood)["nll"] - elbo

    found = np.asarray(gaps(jax.random.split(KEY, 20))).mean(0)
    # of the paired differences of 32 examples, each with draws of its own
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert found.mean() > 3 * error


def test_the_optimal_sigma_is_of_the_entries_that_are_scored():
    rng = np.random.default_rng(1)
    x, out = rng.normal(size=(2, 6, 4)).astype(np.float32)
    mask, seen = rng.integers(0, 2, (2, 6, 4)).astype(np.float32)
    batch = {"x": x, "mask": mask, "seen": seen * mask}
    batch = {name: jnp.asarray(array) for name, array in batch.items()}
    module, decoded = GaussianOptimal(), jnp.asarray(out)[None]
    fresh = module.init(KEY, decoded, batch)
    px, _ = module.apply(fresh, decoded, batch, mutable=["batch_stats"])
    counted = (mask == 1) & (seen * mask == 0)
    np.testing.assert_allclose(
        px.scale**2, np.square(x - out)[counted].mean(), rtol=1e-5
    )


def test_a_ratio_has_the_error_of_its_residuals():
    """Var(a - R b) / (n b_mean^2), for data in two batches."""
    rng = np.random.default_rng(2)
    b = rng.integers(1, 9, 500).astype(np.float32)
    a = (3 * b + rng.normal(size=500)).astype(np.float32)

    def of(values):
        parts = (moments(jnp.asarray(v), jnp.ones(len(v))) for v in np.split(values, 2))
        return merge(*parts)

    found, error = ratio(of(a), of(b), of(a + b))
    want = a.mean(dtype=float) / b.mean(dtype=float)
    residual = a - want * b
    want_error = residual.std(ddof=1) / b.mean() / math.sqrt(500)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    # Variances of about 60 cancel to 1: 60 times the rounding of float32 sums.
    np.testing.assert_allclose(error, want_error, rtol=1e-3)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_khat_finds_the_shape_of_pareto_weights(shape):
    """Within five standard errors, (1 + k) / sqrt(tail) each, and the prior's pull."""
    samples, examples = 5000, 200
    tail = tail_length(samples)
    assert tail == math.ceil(3 * math.sqrt(samples))
    rng = np.random.default_rng(0)
    weights = genpareto.rvs(shape, size=(examples, samples), random_state=rng)
    largest = -np.sort(-np.log(weights), 1)[:, : tail + 1]
    found = pareto_khat(jnp.asarray(largest, jnp.float32)).mean()
    pulled = (tail * shape + 5) / (tail + 10)
    error = (1 + shape) / math.sqrt(tail * examples)
    assert abs(found - pulled) < 5 * error + 1 / tail


def weighed(posterior_is_off_by):
    """The metric on a linear Gaussian model whose encoder is scaled by 1 + this."""
    p = parameters(orthogonal=True, wrong=False)
    state = variables({**p, "A": p["A"] * (1 + posterior_is_off_by)})
    x = np.random.default_rng(3).normal(size=(32, 5))
    metric = nll(100, log_bin=0.0)
    batch = {"x": jnp.asarray(2 * x, jnp.float32), "weight": ONES}
    acc = metric.update(metric.init(), LinearGaussian(), state, batch, KEY)
    return metric.compute(acc)


def test_weights_say_whether_to_trust_them():
    """The exact posterior has equal weights; one that is far off has one or two."""
    exact, off = weighed(0), weighed(4)
    assert exact["nll_ess"] == pytest.approx(100, rel=1e-3)
    assert exact["nll_low_ess"] == exact["nll_high_khat"] == 0
    assert off["nll_low_ess"] > 0.5
    assert off["nll_high_khat"] > 0.5
    assert not distrust({name: float(value) for name, value in exact.items()})
    said = distrust({name: float(value) for name, value in off.items()})
    assert said.startswith("warning: nll is not to be trusted")


def test_iwae_is_chosen_by_the_bound_that_it_trains():
    tiny = {"dataset": "digits", "hidden": (8,), "latents": 2}
    for make in (presets.iwae, presets.miwae, presets.not_miwae):
        experiment = make(**tiny, samples=4, likelihood="gaussian", binarize="none")
        assert "bound" in experiment.metrics(0)
        assert experiment.selection({"elbo": -1.0, "bound": -0.5}) == 0.5


def test_one_example_has_no_standard_error():
    experiment = presets.vae(dataset="digits", hidden=(8,), latents=2)
    x = np.asarray(experiment.dataset.split("train")["x"]).reshape(-1, 8, 8)
    own = from_arrays(x, x_test=x[:1])
    experiment = dataclasses.replace(experiment, dataset=own)
    values = evaluate(experiment, first_state(experiment, make_mesh(1, 128)), samples=3)
    assert values["examples"] == 1
    assert {"elbo", "nll"} <= values.keys()
    assert not [name for name in values if name.endswith("_se")]


def rows_of(*values):
    """The rows of a study whose seeds came out so."""
    seeds, nothing = range(len(values)), cast(Any, None)  # only changes are read
    replicas = [
        Replica(nothing, nothing, changes={"seed": n}, folder=nothing, state=None)
        for n in seeds
    ]
    return summarize(replicas, values)


def test_a_study_has_no_deviation_where_seeds_cannot_tell_one():
    (one,) = rows_of({"nll": 3.0})
    assert one.deviation == {}
    equal, unsound = {"units": 4, "nll": 3.0}, {"units": 4, "nll": math.inf}
    (row,) = rows_of(equal, unsound)
    assert row.deviation == {"units": 0.0}
    (row,) = rows_of(equal, {"units": 4, "nll": 5.0, "rare": 1.0})
    assert row.deviation == {"units": 0.0, "nll": pytest.approx(math.sqrt(2))}
    assert row.mean == {"units": 4, "nll": 4, "rare": 1}
    shown = markdown([row])
    assert "4 ± 1.4" in shown
    assert "± 0" not in shown
    assert "±" not in markdown([one])
    (row,) = rows_of(*[{"share": 0.1}] * 3)  # whose float mean is not quite 0.1
    assert "±" not in markdown([row])
