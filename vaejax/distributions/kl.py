"""KL divergences."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.categories import Categories, kl_of_categories
from vaejax.types import Array, Distribution

CORRELATED = (dist.MultivariateNormal, dist.LowRankMultivariateNormal)


def kl_divergence(q: Distribution, p: Distribution) -> Array | None:
    """KL(q || p), nats, of each entry (of each example, where the densities are joint).

    None where no closed form is known: of pairs that numpyro lacks, and where only one
    of the two densities is joint.
    """
    if isinstance(q, dist.Normal) and isinstance(p, dist.Normal):
        return kl_of_gaussians(q, p)
    if isinstance(q, Categories) and isinstance(p, Categories):
        return kl_of_categories(q, p)
    if isinstance(q, CORRELATED) and isinstance(p, dist.Normal):
        return kl_to_independent(q, p)
    if q.event_dim != p.event_dim or len(q.batch_shape) != len(p.batch_shape):
        return None
    try:
        return dist.kl_divergence(q, p)
    except NotImplementedError:
        return None


def kl_of_gaussians(q: dist.Normal, p: dist.Normal) -> Array:
    """KL(q || p) of each entry, nats: numpyro's log of a squared scale underflows."""
    rank = max(len(q.batch_shape), len(p.batch_shape))
    loc, scale = (with_rank(a, rank) for a in (q.loc, q.scale))
    center, width = (with_rank(a, rank) for a in (p.loc, p.scale))
    ratio = scale / width
    shift = (loc - center) / width
    return 0.5 * (jnp.square(ratio) + jnp.square(shift) - 1) - jnp.log(ratio)


def kl_to_independent(q: Any, p: dist.Normal) -> Array:
    """KL(q || p) of a correlated Gaussian to independent ones, nats of each example."""
    loc, width = jnp.asarray(p.loc), jnp.asarray(p.scale)
    spread = jnp.square((q.mean - loc) / width) + q.variance / jnp.square(width)
    return 0.5 * (spread - 1 + 2 * jnp.log(width)).sum(-1) - 0.5 * log_determinant(q)


def log_determinant(q: Any) -> Array:
    """The log-determinant of the covariance."""
    if isinstance(q, dist.MultivariateNormal):
        factor = jnp.asarray(q.scale_tril)
        return 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    inner = jnp.diagonal(q._capacitance_tril, axis1=-2, axis2=-1)
    return jnp.log(q.cov_diag).sum(-1) + 2 * jnp.log(inner).sum(-1)


def with_rank(values: object, rank: int) -> Array:
    """The array with axes of length 1 in front, `rank` in all."""
    array = jnp.asarray(values)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
