"""The linear map after which points are uncorrelated."""

import jax.numpy as jnp
from jaxtyping import Float

from vaejax.nn.codebooks import EXACT, Points
from vaejax.types import Array

LEAST = 1e-6
"""Share of the largest variance below which points do not vary in a direction."""


def whitening(
    points: Points,
) -> tuple[Float[Array, "channels channels"], Float[Array, " channels"]]:
    """Kernel and bias after which points have mean 0 and covariance 1.

    Of all such maps the symmetric one, which moves points least [Kessy et al. 2018].
    Directions in which points do not vary stay as they are.
    """
    mean = points.mean(0, keepdims=True)
    rest = points - mean
    covariance = jnp.matmul(rest.T, rest, precision=EXACT) / len(points)
    variances, directions = jnp.linalg.eigh(covariance)
    varied = variances > LEAST * variances[-1]
    factors = jnp.where(varied, jnp.where(varied, variances, 1.0) ** -0.5, 1.0)
    kernel = jnp.matmul(directions * factors[None], directions.T, precision=EXACT)
    return kernel, -jnp.matmul(mean, kernel, precision=EXACT)[0]
