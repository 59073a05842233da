"""A posterior that follows Hamiltonian dynamics of the model [Caterini et al. 2018]."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import Normal
from vaejax.inference.latents import (
    FromPosterior,
    Keys,
    LatentTerm,
    fold_each,
    latent_term,
    log_density,
)
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.vae import EncoderDecoder
from vaejax.purposes import OfLayer
from vaejax.types import Array, Batch

Draws = Float[Array, "samples batch latents"]
Slope = Callable[[Array], Array]

LARGEST_STEP = 0.5
"""Bound of the step sizes that are learned, as for MNIST in the authors' code."""


class Dynamics(NamedTuple):
    """Settings of a trajectory."""

    sizes: Float[Array, " latents"]
    """Size of a step for each latent."""
    start: Array
    """The inverse temperature beta_0 that it begins with; it ends with 1."""
    steps: int

    def root(self, step: Array) -> Array:
        """sqrt(beta_k) after k steps, by quadratic tempering (eq. 11)."""
        hot = 1 / jnp.sqrt(self.start)
        return 1 / ((1 - hot) * jnp.square(step / self.steps) + hot)

    def follow(self, slope: Slope, z: Draws, momentum: Draws) -> tuple[Draws, Draws]:
        """Latents and momentum after all steps.

        The volume changes by beta_0^(L / 2) alone, by tempering: leapfrog keeps it.

        Args:
          slope: of log p(x, z) by z.
          z: latents at the start.
          momentum: at the start, in the units of beta_0.
        """
        size = self.sizes[None, None]

        def leap(carry: tuple, step: Array) -> tuple[tuple, None]:
            z, momentum, uphill = carry
            momentum = momentum + size / 2 * uphill
            z = z + size * momentum
            uphill = slope(z)
            momentum = momentum + size / 2 * uphill
            cooling = self.root(step) / self.root(step + 1)
            return (z, cooling * momentum, uphill), None

        begin = z, momentum, slope(z)
        (z, momentum, _), _ = jax.lax.scan(leap, begin, jnp.arange(self.steps))
        return z, momentum


class LearnedDynamics(nn.Module):
    """Step sizes of each latent and a temperature, learned from where they begin."""

    latents: int
    steps: int
    size: float
    start: float

    @nn.compact
    def __call__(self) -> Dynamics:
        share = self.size / LARGEST_STEP
        begin = nn.initializers.constant
        raw = self.param("size", begin(logit(share)), (self.latents,))
        sizes = LARGEST_STEP * nn.sigmoid(raw)
        if self.start == 1:
            return Dynamics(sizes, jnp.ones(()), self.steps)
        heat = self.param("start", begin(logit(self.start)), ())
        return Dynamics(sizes, nn.sigmoid(heat), self.steps)


def logit(share: float) -> Array:
    """The number whose sigmoid is the share."""
    return jnp.log(share) - jnp.log1p(-share)


class HamiltonianVAE(EncoderDecoder):
    """A VAE whose latents move by the gradient of log p(x, z) after q(z | x) drew them.

    With z_0 ~ q(z | x), unit noise g and the momentum r_0 = g / sqrt(beta_0), K steps
    of leapfrog and tempering lead to z_K and r_K, and

        log p(x, z_K) + log N(r_K; 0, I) - log q(z_0 | x) - log N(g; 0, I)

    is the logarithm of an unbiased estimate of p(x) [Caterini et al. 2018, eq. 9 and
    algorithm 1], by which `infer` weighs z_K. Without steps it is the VAE. `encode`,
    and `weigh`, which is of given latents, know q(z | x) alone.
    """

    prior: nn.Module
    dynamics: LearnedDynamics

    def infer(self, batch: Batch, keys: Keys) -> Inference:
        if not self.dynamics.steps:
            return super().infer(batch, keys)
        start = self.terms(batch, FromPosterior(keys)).latents["z"]
        z, log_ratio = self._moved(start, batch, keys)
        found = latent_term(start.q, start.p, z, jnp.zeros_like(z))
        log_q = start.log_q + log_ratio
        kl = (log_q - found.log_p)[..., None]
        px = self.decode(z, batch)
        term = found._replace(log_q=log_q, kl=kl)
        return Inference(log_observed(px, batch), {"z": term}, px)

    def _moved(self, start: LatentTerm, batch: Batch, keys: Keys) -> tuple[Any, Array]:
        """z_K, and log N(g; 0, I) - log N(r_K; 0, I)."""
        decoder, variables = self.decoder.unbind()
        dynamics = self.dynamics()

        def log_joint(z: Array) -> Array:
            px: Any = decoder.apply(variables, z, batch)
            log_p = log_density(start.p, z).reshape(*z.shape[:2], -1)
            return log_observed(px, batch).sum() + log_p.sum()

        noise = jax.vmap(lambda key: jax.random.normal(key, start.z.shape[1:]))(
            fold_each(keys, OfLayer.MOMENTUM)
        )
        momentum = noise / jnp.sqrt(dynamics.start)
        z, momentum = dynamics.follow(jax.grad(log_joint), start.z, momentum)
        unit = Normal(jnp.zeros(()), jnp.ones(()))
        return z, (unit.log_prob(noise) - unit.log_prob(momentum)).sum(-1)
