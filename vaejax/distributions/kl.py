"""KL divergences."""

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.types import Array, Distribution


def kl_divergence(q: Distribution, p: Distribution) -> Array | None:
    """KL(q || p), nats, of each entry (of each example, where the densities are joint).

    None where no closed form is known: of pairs that numpyro lacks, and where only one
    of the two densities is joint.
    """
    if isinstance(q, dist.Normal) and isinstance(p, dist.Normal):
        return kl_of_gaussians(q, p)
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


def with_rank(values: object, rank: int) -> Array:
    """The array with axes of length 1 in front, `rank` in all."""
    array = jnp.asarray(values)
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
