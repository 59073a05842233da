"""KL divergences."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float

from vaejax.types import Array, Distribution


def kl_divergence(
    q: Distribution, p: Distribution, z: Float[Array, "samples batch latents"]
) -> Float[Array, "samples batch latents"]:
    """KL(q || p) of each latent, nats: analytic where known, else Monte Carlo.

    The estimate log q(z) - log p(z) at each of the given draws of q is unbiased, but
    may be negative.
    """
    if isinstance(q, dist.Normal) and isinstance(p, dist.Normal):
        return jnp.broadcast_to(kl_of_gaussians(q, p), z.shape)
    try:
        analytic = dist.kl_divergence(q, p)
    except NotImplementedError:  # numpyro knows no closed form for this pair
        return jax.vmap(q.log_prob)(z) - jax.vmap(p.log_prob)(z)
    return jnp.broadcast_to(analytic, z.shape)


def kl_of_gaussians(q: dist.Normal, p: dist.Normal) -> Array:
    """KL(q || p) of each entry, nats: numpyro's log of a squared scale underflows."""
    scale, width = jnp.asarray(q.scale), jnp.asarray(p.scale)
    ratio = scale / width
    shift = (jnp.asarray(q.loc) - jnp.asarray(p.loc)) / width
    return 0.5 * (jnp.square(ratio) + jnp.square(shift) - 1) - jnp.log(ratio)
