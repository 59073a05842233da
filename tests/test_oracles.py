"""Whole trainings against what is known in closed form."""

import jax
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from vaejax import evaluate, presets, train

LATENTS = 10


@pytest.fixture(scope="module")
def linear():
    """The linear VAE trained by the loop, and its training data."""
    # A step is an epoch: without these it would be logged and called by itself.
    seldom = {"log_every": 500, "evaluate_every": 2000}
    experiment = presets.pca(
        dataset="breast_cancer", latents=LATENTS, batch_size=456, epochs=2000, **seldom
    )
    state = train(experiment, quiet=True, devices=1)
    return experiment, state, experiment.dataset.split("train")["x"]


def exact_log_likelihood(params, x):
    """Mean log N(x; b, W'W + sigma^2 I) of the linear decoder, nats."""
    decoder = jax.tree.map(np.asarray, params["decoder"])
    layer = decoder["body"]["Dense_0"]
    w, b = layer["kernel"].astype(float), layer["bias"]
    sigma = np.exp(decoder["likelihood"]["log_sigma"])
    covariance = w.T @ w + sigma**2 * np.eye(len(b))
    return multivariate_normal(b, covariance).logpdf(x).mean()


def test_a_linear_vae_is_probabilistic_pca(linear):
    """At its optimum its marginal likelihood is the maximum that PCA gives."""
    _, state, x = linear
    best = PCA(LATENTS).fit(x).score(x)
    exact = exact_log_likelihood(state.params, x)
    assert exact <= best + 1e-3  # the maximum; both sums are over float32 data
    assert best - exact < 0.05


def test_elbo_importance_bound_and_exact_likelihood_are_ordered(linear):
    """ELBO <= IWAE_k <= log p(x), each estimate within its Monte Carlo error.

    The noise of an estimate is bounded by the standard error over examples of the
    difference to the exact value of each, here of the order of sqrt(D / 2 / N).
    """
    experiment, state, x = linear
    exact = exact_log_likelihood(state.params, x)
    noise = 4 * np.sqrt(x.shape[1] / 2 / len(x))
    elbo = evaluate(experiment, state, split="train", samples=0)["elbo"]
    bounds = [
        -evaluate(experiment, state, split="train", samples=k)["nll"] for k in (5, 500)
    ]
    assert elbo < bounds[0] + noise
    assert bounds[0] < bounds[1] + noise
    assert bounds[1] < exact + 0.05
    # At the optimum the posterior is exact, so the bounds are tight.
    assert exact - bounds[1] < 0.05


def test_the_decoder_spans_the_principal_subspace(linear):
    _, state, x = linear
    w = np.asarray(state.params["decoder"]["body"]["Dense_0"]["kernel"])
    components = PCA(LATENTS).fit(x).components_
    basis = np.linalg.qr(w.T)[0]
    cosines = np.linalg.svd(components @ basis, compute_uv=False)
    assert cosines.min() > 0.99
