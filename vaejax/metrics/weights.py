"""Whether importance weights can be trusted: Pareto k-hat of their tail.

The largest of S weights are fitted with a generalized Pareto distribution, whose shape
k says how many moments the weights have: above 0.7 averages of them do not settle at
any S that one can afford [Vehtari et al. 2024, sec. 3].
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.imputation import LEAST_ESS
from vaejax.types import Array

HIGH_KHAT = 0.7
"""Pareto k-hat above which an estimate is not to be trusted."""
LEAST_TAIL = 5
FEW = 0.05
"""Share of examples whose weights may be bad before a number is said to be."""


def distrust(values: Mapping[str, float | int]) -> str:
    """A sentence where the weights behind `nll` say not to trust it; else empty."""
    low, high = (values.get(f"nll_{n}", 0.0) for n in ("low_ess", "high_khat"))
    if max(low, high) <= FEW:
        return ""
    return (
        f"warning: nll is not to be trusted: {low:.0%} of the examples have fewer than "
        f"{LEAST_ESS:.0f} effective samples, and {high:.0%} a Pareto k-hat above "
        f"{HIGH_KHAT}: give more --samples, or compare the ELBO"
    )


def tail_length(samples: int) -> int:
    """Weights that are fitted, min(S / 5, 3 sqrt S); 0 where they are under five."""
    length = math.ceil(min(samples / 5, 3 * math.sqrt(samples)))
    return length if length >= LEAST_TAIL else 0


def pareto_khat(
    largest: Float[Array, "batch tail_and_cutoff"],
) -> Float[Array, " batch"]:
    """k-hat from the largest log-weights of each example and the next one.

    Args:
      largest: log-weights, in descending order; the last one is the cutoff, over which
        the others exceed.

    Returns:
      The shape of the generalized Pareto distribution that fits the exceedances: 0
      where all weights are equal, infinity where the tail is too wide for float32.
    """
    weights = jnp.exp(largest - largest[:, :1])
    excess = (weights[:, :-1] - weights[:, -1:])[:, ::-1]
    k = jax.vmap(generalized_pareto_shape)(excess)
    # Equal to rounding of log-weights, which are sums of hundreds of nats.
    equal = excess[:, -1] < 1e-3
    return jnp.where(equal, 0.0, jnp.where(jnp.isfinite(k), k, jnp.inf))


def generalized_pareto_shape(x: Float[Array, " tail"]) -> Array:
    """Shape k of a generalized Pareto distribution, from ascending draws x > 0.

    The estimate of [Zhang & Stephens 2009], the posterior mean over a grid of
    b = -k / sigma, shrunk towards 1/2 by ten made-up draws [Vehtari et al. 2024].
    """
    n = x.shape[0]
    grid = 30 + math.isqrt(n)
    quartile = x[int(n / 4 + 0.5) - 1]
    b = 1 - jnp.sqrt(grid / (jnp.arange(1, grid + 1) - 0.5))
    b = b / (3 * quartile) + 1 / x[-1]
    k = jnp.log1p(-b[:, None] * x[None]).mean(1)
    fit = n * (jnp.log(-b / k) - k - 1)
    b = (jax.nn.softmax(fit) * b).sum()
    k = jnp.log1p(-b * x).mean()
    return (n * k + 10 * 0.5) / (n + 10)
