"""Penalties of decoders and of images against sums by NumPy and by autodiff."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaejax
from tests.test_inference import EPS
from vaejax import objectives, presets
from vaejax.inference.terms import infer
from vaejax.nn.similarity import multiscale_similarity
from vaejax.objectives.regularized import squared_slopes

KEY = jax.random.key(0)
BATCH = {"x": jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))}


@pytest.fixture(scope="module")
def run():
    """Loss and terms of the tiny regularized autoencoder, and its decoder."""
    model = presets.rae(dataset="digits", hidden=(8,), latents=1).model
    init = jax.jit(nn.init(objectives.reconstruction, model))
    variables = init(KEY, BATCH, KEY)

    def losses(penalty, **hyper):
        objective = partial(objectives.regularized, penalty=penalty, **hyper)
        return jax.jit(nn.apply(objective, model))(variables, BATCH, KEY)

    return losses, model, variables


def test_loss_is_the_sum_of_its_logged_terms(run):
    losses, model, variables = run
    loss, terms = losses("l2", beta=0.5, strength=0.1)
    total = terms["distortion"] + terms["rate"] + terms["penalty"]
    np.testing.assert_allclose(loss, total, rtol=4 * EPS)
    z = model.apply(variables, BATCH, method="encode").mean
    want = 0.5 * np.square(z).sum(-1).mean() / 2
    np.testing.assert_allclose(terms["rate"], want, rtol=1e-5)
    squares = [
        np.square(a).sum() for a in jax.tree.leaves(variables["params"]["decoder"])
    ]
    np.testing.assert_allclose(terms["penalty"], 0.1 * sum(squares), rtol=1e-5)


def test_without_weights_it_is_an_autoencoder(run):
    losses, model, variables = run
    loss, _ = losses("gp", beta=0.0, strength=0.0)
    plain = jax.jit(nn.apply(objectives.reconstruction, model))
    want, _ = plain(variables, BATCH, KEY)
    np.testing.assert_allclose(loss, want, rtol=2 * EPS)


def test_the_penalty_of_slopes_is_autodiff_by_hand(run):
    """With one latent both directions give the same, so that nothing is random."""
    losses, model, variables = run
    _, terms = losses("gp", beta=0.0, strength=0.1)
    z = model.apply(variables, BATCH, method="encode").mean

    def mean(z, x):
        batch = {"x": x[None]}
        return model.apply(variables, z[None, None], batch, method="decode").mean[0, 0]

    jacobian = jax.jit(jax.vmap(jax.jacrev(mean)))(z, BATCH["x"])
    want = 0.1 * np.square(jacobian).sum((1, 2, 3, 4)).mean()
    assert want > 1e-3  # else nothing is compared
    np.testing.assert_allclose(terms["penalty"], want, rtol=1e-4)


def test_random_directions_are_unbiased_for_the_squared_jacobian():
    """The mean over all signs of three latents is the sum of squares, exactly."""
    weights = np.random.default_rng(0).normal(size=(3, 4))

    def function(z):
        return jnp.tanh(z @ jnp.float32(weights))

    z = jax.random.normal(KEY, (2, 3))
    signs = jnp.float32(list(itertools.product([-1, 1], repeat=3)))
    found = np.mean(
        [
            squared_slopes(function, z, jnp.broadcast_to(s[None], z.shape))
            for s in signs
        ],
        axis=0,
    )
    jacobian = jax.vmap(jax.jacrev(function))(z)
    np.testing.assert_allclose(found, np.square(jacobian).sum((1, 2)), rtol=1e-5)


def test_the_loss_of_images_is_their_dissimilarity():
    """MS-SSIM of E[x | z] at the draw, of images that have two scales."""
    x = jax.random.uniform(jax.random.key(1), (3, 24, 24, 1))
    made = presets.ms_ssim_vae(
        dataset=vaejax.from_arrays(np.uint8(255 * x)), batch_size=2, hidden=(4,)
    )
    model, batch = made.model, {"x": x}
    variables = jax.jit(nn.init(objectives.elbo, model))(KEY, batch, KEY)

    @jax.jit
    def run(weight, beta):
        objective = partial(objectives.expected_dissimilarity, weight=weight, beta=beta)
        found = nn.apply(infer, model)(variables, batch, KEY)
        alike = multiscale_similarity(x, found.px.mean[0]).mean()
        return nn.apply(objective, model)(variables, batch, KEY), alike, found.kl.mean()

    (loss, terms), alike, kl = run(30.0, 2.0)
    np.testing.assert_allclose(loss, 30 * (1 - alike) + 2 * kl, rtol=1e-5)
    np.testing.assert_allclose(loss, terms["dissimilarity"] + terms["rate"], rtol=EPS)
    (loss, _), _, kl = run(0.0, 1.0)
    np.testing.assert_allclose(loss, kl, rtol=4 * EPS)
