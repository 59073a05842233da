"""Aggregate posteriors that are matched to the prior: InfoVAE and WAE-MMD.

The maximum mean discrepancy of two distributions with a kernel k is

    MMD^2 = E k(a, a') + E k(b, b') - 2 E k(a, b)

[Gretton et al. 2012, lemma 6], a number without unit; its weight is in nats.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.objectives.adversarial import shared_latents
from vaejax.objectives.elbo import gaussian_terms, terms
from vaejax.types import Array, Batch, Key, Metrics

KernelName = Literal["imq", "rbf"]
Points = Float[Array, "points latents"]
Others = Float[Array, "others latents"]

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Scales of the kernels that are added, as the authors' code of WAE has them."""

KERNELS: Mapping[str, Callable[[Array, float], Array]] = {
    "imq": lambda squared, width: width / (width + squared),
    "rbf": lambda squared, width: jnp.exp(-squared / width),
}
"""Functions of the squared distance and of a width, a squared distance too."""


class Kernel(NamedTuple):
    """The sum over scales s of kernels of the width 2 s L, of L latents.

    2 L is the expected squared distance of two draws of N(0, I)
    [Tolstikhin et al. 2018, sec. 4]. imq is w / (w + r^2), rbf is exp(-r^2 / w).
    """

    name: KernelName = "imq"
    scales: tuple[float, ...] = SCALES

    def at(self, squared: Array, latents: int) -> Array:
        """Values at squared distances."""
        each = KERNELS[self.name]
        values = [each(squared, 2 * scale * latents) for scale in self.scales]
        return jnp.stack(values).sum(0)


IMQ = Kernel()


def pairwise_squares(a: Points, b: Others) -> Float[Array, "points others"]:
    """Squared distances between all pairs, not below zero by rounding."""
    squares = jnp.square(a).sum(-1)[:, None] + jnp.square(b).sum(-1)[None]
    return jnp.maximum(squares - 2 * a @ b.T, 0)


def squared_discrepancy(a: Points, b: Others, kernel: Kernel) -> Array:
    """The unbiased estimate of MMD^2 [Gretton et al. 2012, eq. 3].

    Pairs of a point with itself do not count, so that it may be negative. `a` and `b`
    are points `[points, latents]`.
    """
    latents = a.shape[-1]

    def within(points: Points) -> Array:
        count = len(points)
        values = kernel.at(pairwise_squares(points, points), latents)
        # Of one point, of which parameters are initialized, there are no pairs.
        return (values.sum() - jnp.trace(values)) / max(count * (count - 1), 1)

    between = kernel.at(pairwise_squares(a, b), latents).mean()
    return within(a) + within(b) - 2 * between


def discrepancy_to_prior(
    model: LatentModel, z: Points, batch: Batch, key: Key, kernel: Kernel
) -> Array:
    """MMD^2 of draws of q(z), one for each example, and as many of p(z)."""
    return squared_discrepancy(z, shared_latents(model, batch, key), kernel)


def info(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    alpha: float | Array = 0.0,
    strength: float | Array = 100.0,
    kernel: Kernel = IMQ,
) -> tuple[Array, Metrics]:
    """The InfoVAE's objective by the maximum mean discrepancy, nats per example.

    loss = E_q[-log p(x | z)] + (1 - alpha) KL(q(z | x) || p(z))
         + (alpha + strength - 1) MMD^2(q(z), p(z))
    [Zhao et al. 2019, eq. 6, whose lambda is `strength`]. With alpha = 0 and strength
    1 it is the VAE; with alpha = 1 the MMD-VAE.

    Args:
      model: a bound `vaejax.models.LatentModel` of one block of real latents.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      alpha: weight of the mutual information that the KL term loses.
      strength: weight of the divergence of q(z) to the prior.
      kernel: of the discrepancy.

    Returns:
      The loss, a scalar, and its terms: `loss` = `rate` + `distortion` + `penalty`, the
      last of which is (alpha + strength - 1) times `mmd`; nats, but for `mmd`.
    """
    i = infer(model, batch, key)
    rate = (1 - alpha) * jnp.mean(i.kl)
    discrepancy = discrepancy_to_prior(model, i.z[0], batch, key, kernel)
    penalty = (alpha + strength - 1) * discrepancy
    logged = terms(i, rate) | gaussian_terms(i, 1 - alpha)
    loss = logged["loss"] + penalty
    return loss, logged | {"loss": loss, "mmd": discrepancy, "penalty": penalty}


def wasserstein(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    strength: float | Array = 200.0,
    kernel: Kernel = IMQ,
) -> tuple[Array, Metrics]:
    """The objective of the WAE-MMD, nats per example.

    loss = E_q[-log p(x | z)] + strength MMD^2(q(z), p(z))
    [Tolstikhin et al. 2018, algorithm 2, whose lambda is `strength`]. The cost of
    transport is the negative log-likelihood: of a Gaussian half the squared error in
    units of its variance, and a constant.

    Args:
      model: a bound `vaejax.models.LatentModel`, whose encoder may be deterministic.
      batch: `x` `[batch, *shape]`, and what the model conditions on.
      key: a `jax.random.key`.
      strength: weight of the divergence of q(z) to the prior.
      kernel: of the discrepancy.

    Returns:
      The loss, a scalar, and its terms: `loss` = `distortion` + `penalty`, the last of
      which is strength times `mmd`; nats, but for `mmd`.
    """
    i = infer(model, batch, key)
    distortion = -jnp.mean(i.log_px)
    discrepancy = discrepancy_to_prior(model, i.z[0], batch, key, kernel)
    penalty = strength * discrepancy
    parts = {"distortion": distortion, "mmd": discrepancy, "penalty": penalty}
    loss = distortion + penalty
    return loss, {"loss": loss, **parts}
