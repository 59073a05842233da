"""The importance-weighted bound against the number of its samples."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.latents import Keys
from vaejax.laboratory.weights import all_log_weights, weight_numbers
from vaejax.metrics.evidence import require_density
from vaejax.types import Array, Batch, Key, Variables


def counts_up_to(samples: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50, ... below `samples`, and `samples`."""
    steps = [m * 10**e for e in range(len(str(samples))) for m in (1, 2, 5)]
    return (*(k for k in steps if k < samples), samples)


def bounds_over_k(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    samples: int,
) -> dict[str, Float[Array, "batch counts"]]:
    """The bounds E[log 1/K sum w] of each example for K of `counts_up_to`, nats.

    All draws are used at each K: as many disjoint groups of K as there are are
    averaged, so that each number is an unbiased estimate of its bound
    [Burda et al. 2016, eq. 8].

    Args:
      model: a latent model.
      variables: its variables.
      batch: examples as the model sees them.
      key: of the draws.
      samples: draws of q(z | x) for each example, and the largest K.

    Returns:
      `log_p`, the bounds; `bias`, the jackknife's estimate of how far each is below
      log p(x); `error`, its standard error over repetitions of the draws; `ess` and
      `khat` of K weights, the means over groups.

    Raises:
      InputError: z or x has a point mass, whose density is infinite.
    """

    def log_weights(keys: Keys) -> Array:
        i: Any = model.apply(variables, batch, keys, method="infer")
        for term in i.latents.values():
            require_density(term.q, "q(z | x)")
        require_density(i.px, "p(x | z)")
        return i.log_w

    log_w = all_log_weights(log_weights, key, samples)
    found = [numbers_at(log_w, count) for count in counts_up_to(samples)]
    return {name: jnp.stack([f[name] for f in found], -1) for name in found[0]}


def numbers_at(
    log_w: Float[Array, "samples batch"], count: int
) -> dict[str, Float[Array, " batch"]]:
    """The numbers of `bounds_over_k` at one K."""
    groups = len(log_w) // count
    several = log_w[: groups * count].reshape(groups, count, -1)
    numbers = weight_numbers(jnp.moveaxis(several, 1, 0))
    found = {name: values.mean(0) for name, values in numbers._asdict().items()}
    if groups > 1:
        spread = numbers.log_p.std(0, ddof=1)
        found["error"] = spread / jnp.sqrt(groups)
    return found
