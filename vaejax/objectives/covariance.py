"""Latents whose covariance over the data is to be the identity: DIP-VAE."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions.moments import covariance
from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.objectives.elbo import gaussian_terms, terms
from vaejax.types import Array, Batch, Distribution, Key, Metrics

Kind = Literal["i", "ii"]
Covariance = Float[Array, "latents latents"]


def disentangled_prior(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    kind: Kind = "i",
    off_diagonal: float | Array = 10.0,
    diagonal: float | Array = 100.0,
    beta: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """The negative ELBO, and a penalty of the latents' covariance, nats per example.

    loss = E_q[-log p(x | z)] + beta KL
         + off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2
    [Kumar et al. 2018, eqs. 6 and 7], where C is the covariance over the batch: of the
    posterior means (kind i), or of z ~ q(z), which adds E[Cov(z | x)] (kind ii).

    Args:
      model: a bound `vaejax.models.LatentModel` of one block of real latents.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      kind: of the paper's two penalties.
      off_diagonal: weight of the covariances.
      diagonal: weight of the variances' distance to 1.
      beta: weight of the KL term; 1 in the paper.

    Returns:
      The loss, a scalar, and its terms: `loss` = `rate` + `distortion` + `penalty`;
      nats.

    Raises:
      InputError: the posterior has no covariance with a formula.
    """
    i = infer(model, batch, key)
    q = i.latents["z"].q
    found = MOMENTS[kind](q)
    wrong = jnp.square(found - jnp.eye(len(found)))
    own = jnp.trace(wrong)
    penalty = off_diagonal * (wrong.sum() - own) + diagonal * own
    rate = beta * jnp.mean(i.kl)
    logged = terms(i, rate) | gaussian_terms(i, beta)
    loss = logged["loss"] + penalty
    return loss, logged | {"loss": loss, "penalty": penalty}


def covariance_of_means(q: Distribution) -> Covariance:
    """Covariance over the batch of E[z | x], as a mean over all examples."""
    away = q.mean - q.mean.mean(0, keepdims=True)
    return away.T @ away / len(away)


def covariance_of_latents(q: Distribution) -> Covariance:
    """Covariance of z under the mean of the batch's posteriors."""
    return covariance_of_means(q) + covariance(q).mean(0)


MOMENTS = {"i": covariance_of_means, "ii": covariance_of_latents}
