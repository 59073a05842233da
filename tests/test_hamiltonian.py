"""Hamiltonian dynamics of latents against a model of known evidence."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.test_inference import WRONG, L, data, gap, log_evidence
from vaejax import objectives
from vaejax.distributions import Normal
from vaejax.models import VAE, HamiltonianVAE, LearnedDynamics, StandardNormal
from vaejax.models.hamiltonian import Dynamics

KEY = jax.random.key(0)
P = {name: jnp.float32(value) for name, value in WRONG.items()}


class LinearEncoder(nn.Module):
    """The wrong posterior of `LinearGaussian`."""

    @nn.compact
    def __call__(self, batch):
        mean = (batch["x"] - P["b"][None]) @ P["A"].T
        return Normal(mean, jnp.broadcast_to(jnp.exp(P["log_s"]), mean.shape))


class LinearDecoder(nn.Module):
    """Its likelihood."""

    @nn.compact
    def __call__(self, z, batch):
        return Normal(z @ P["W"].T + P["b"][None, None], jnp.exp(P["log_sigma"]))


PARTS = (LinearEncoder(), LinearDecoder(), StandardNormal(L))
BATCH = data(WRONG, 4)


def weights(steps, samples, tempering=0.5):
    """Log-weights `[samples, batch]` of the model with `steps` leapfrog steps."""
    model = HamiltonianVAE(*PARTS, LearnedDynamics(L, steps, 0.2, tempering))
    keys = jax.random.split(KEY, samples)
    variables = model.init(KEY, BATCH, keys[:1], method="infer")
    infer = jax.jit(partial(model.apply, method="infer"))
    return np.asarray(infer(variables, BATCH, keys).log_w, float)


@pytest.mark.parametrize("tempering", [1.0, 0.5])
def test_the_bound_obeys_the_evidence(tempering):
    """E[log w] <= log p(x) and E[w] = p(x), within 5 standard errors of 20,000 draws.

    Without tempering dynamics keep the density p(z | x) N(r), and so KL(q || p) too,
    but for the error of steps of .2, which is the noise's order: the gap is the VAE's.
    """
    log_p, kl = log_evidence(WRONG, BATCH["x"]), gap(WRONG, BATCH["x"])
    log_w = weights(4, 20_000, tempering) - log_p
    mean, error = log_w.mean(0), log_w.std(0) / np.sqrt(len(log_w))
    assert (mean < 5 * error).all()
    if tempering == 1:
        assert (abs(mean + kl) < 5 * error).all()
        assert (kl > 20 * error).all()  # else nothing is compared
    ratio = np.exp(log_w)
    error = ratio.std(0) / np.sqrt(len(ratio))
    assert (abs(ratio.mean(0) - 1) < 5 * error).all()
    assert (error < 0.05).all()  # else nothing is compared


def test_without_steps_it_is_the_vae():
    still = HamiltonianVAE(*PARTS, LearnedDynamics(L, 0, 0.2, 0.5))
    losses = [
        jax.jit(nn.apply(objectives.elbo, model))({}, BATCH, KEY)
        for model in (still, VAE(*PARTS))
    ]
    jax.tree.map(np.testing.assert_array_equal, *losses)


def test_dynamics_change_the_volume_by_tempering_alone():
    """|d(z_K, r_K) / d(z_0, r_0)| = beta_0^(L / 2), by autodiff, for any slope."""
    start, dynamics = 0.4, Dynamics(jnp.array([0.3, 0.1]), jnp.float32(0.4), 3)

    def slope(z):
        return -z + jnp.sin(3 * z[..., ::-1])

    def move(both):
        z, momentum = (part[None, None] for part in jnp.split(both, 2))
        return jnp.concatenate(dynamics.follow(slope, z, momentum), -1)[0, 0]

    jacobian = jax.jit(jax.jacfwd(move))(jnp.array([0.5, -1.0, 0.7, 0.2]))
    found = np.linalg.det(np.asarray(jacobian, float))
    assert found == pytest.approx(start ** (2 / 2), rel=1e-5)


def test_dynamics_can_be_reversed():
    """Leapfrog from the end with the momentum reversed leads back to the start."""
    dynamics = Dynamics(jnp.array([0.3, 0.1]), jnp.ones(()), 5)

    def slope(z):
        return -z + jnp.sin(3 * z[..., ::-1])

    z, momentum = jnp.array([[[0.5, -1.0]]]), jnp.array([[[0.7, 0.2]]])
    end, r = dynamics.follow(slope, z, momentum)
    again, back = dynamics.follow(slope, end, -r)
    assert abs(end - z).max() > 0.1
    np.testing.assert_allclose(again, z, atol=1e-5)
    np.testing.assert_allclose(back, -momentum, atol=1e-5)
