"""A linear layer whose outputs begin uncorrelated, by the data."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.nn.codebooks import EXACT, Points
from vaejax.types import Array, Key

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


def identity(key: Key, shape: tuple[int, int]) -> Array:
    """The kernel that changes nothing."""
    del key
    return jnp.eye(*shape)


class Whitening(nn.Module):
    """A linear layer that changes nothing until `start` has seen data.

    From there on it is learned like any other [Krahenbuhl et al. 2016].
    """

    channels: int

    @nn.compact
    def __call__(self, h: Float[Array, "... channels"]) -> Array:
        kernel = self.param("kernel", identity, (self.channels, self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        out = jnp.matmul(h, kernel, precision=EXACT)
        return out + bias.reshape((1,) * (h.ndim - 1) + (-1,))

    def start(self, h: Float[Array, "... channels"]) -> None:
        """Outputs for h have mean 0 and covariance 1 after it."""
        kernel, bias = whitening(h.reshape(-1, self.channels))
        self.put_variable("params", "kernel", kernel)
        self.put_variable("params", "bias", bias)
