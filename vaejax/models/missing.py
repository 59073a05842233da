"""Missingness p(m | x), and the VAE that models it [Ipsen et al. 2021]."""

import math
from typing import ClassVar

import flax.linen as nn
import jax

from vaejax.distributions import Bernoulli
from vaejax.inference.latents import Keys
from vaejax.inference.terms import Inference, complete, total
from vaejax.models.holes import observed
from vaejax.models.vae import VAE
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch


class SelfMasking(nn.Module):
    """logit p(observed) = -w (x - b), with w and b of each entry (eq. 11).

    With `sign` = 1 large values are the missing ones, with -1 small ones: w is then
    positive or negative; with 0 the sign of w is learned.
    """

    sign: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = x.shape[2:]
        start = nn.initializers.normal(1 / math.sqrt(math.prod(shape)))
        w = self.param("slope", start, shape)
        b = self.param("threshold", start, shape)
        slope = self.sign * nn.softplus(w) if self.sign else w
        return -slope[None, None] * (x - b[None, None])


class LogisticMissingness(nn.Module):
    """logit p(observed) of each entry by a network of all; no body: linear in x."""

    body: nn.Module | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        flat = x.reshape(*x.shape[:2], -1)
        h = flat if self.body is None else self.body(flat)
        return nn.Dense(flat.shape[-1])(h).reshape(x.shape)


class MissingVAE(VAE):
    """p(x, z) p(m | x): a VAE with the part `missing`, which says why entries are.

    For missing not at random. The missing entries of x are drawn where the mask's
    probability needs them, one completion for each z:
    w = p(x_observed | z) p(m | x) p(z) / q(z | x) [Ipsen et al. 2021, eq. 6].
    """

    ignorable: ClassVar[bool] = False

    missing: nn.Module

    def infer(self, batch: Batch, keys: Keys) -> Inference:
        i = super().infer(batch, keys)
        hole_key = jax.random.fold_in(keys[0], OfObjective.HOLES)
        x = complete(batch, i.px.rsample(hole_key))
        return i._replace(log_px=i.log_px + self.log_missing(x, batch), x=x)

    def log_missing(self, x: Array, batch: Batch) -> Array:
        log_prob = Bernoulli(self.missing(x)).log_prob(observed(batch)[None])
        return total(log_prob.reshape(*log_prob.shape[:2], -1))
