"""The aggregated posterior against the prior."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.latents import draw_keys
from vaejax.types import Array, Batch, Key, Variables


def index_code_terms(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    others: Batch,
    *,
    draws: int,
) -> dict[str, Float[Array, " batch"]]:
    """The terms of E_x KL(q(z | x) || p) = I(x; z) + KL(q(z) || p), nats.

    q(z) = 1/N sum_n q(z | x_n) is the aggregated posterior of N examples, and I the
    information that z has of which example it is of [Hoffman & Johnson 2016].

    Args:
      model: a latent model.
      variables: its variables.
      batch: examples to draw z of, with an entry `row` `[batch]`: their places among
        the others.
      key: of the draws.
      others: all N examples.
      draws: of z for each example.

    Returns:
      The means over draws, of each example: `kl`, log q(z | x) / p(z);
      `information`, log q(z | x) / q(z), which is at most log N and in expectation
      below I of all data; and `information_without`, the same with 1 / (N - 1) times
      the sum over the other examples, in expectation above it
      [Poole et al. 2019].
    """
    rows = batch["row"]
    count = others["x"].shape[0]

    def one(key: Key) -> tuple[Array, Array, Array]:
        i: Any = model.apply(variables, batch, key[None], method="infer")
        # Each draw is weighed by the posterior of every example.
        z = {
            name: jnp.broadcast_to(
                jnp.moveaxis(term.z, 0, 1), (len(rows), count, *term.z.shape[2:])
            )
            for name, term in i.latents.items()
        }
        every: Any = model.apply(variables, z, others, method="weigh")
        log_q: Array = every.log_qz  # [batch, others]
        own = log_q[jnp.arange(len(rows)), rows]
        mixed = jax.nn.logsumexp(log_q, axis=1) - jnp.log(count)
        apart = log_q.at[jnp.arange(len(rows)), rows].set(-jnp.inf)
        without = jax.nn.logsumexp(apart, axis=1) - jnp.log(count - 1)
        kl = (i.log_qz - i.log_pz)[0]
        return kl, own - mixed, own - without

    kl, information, without = jax.lax.map(one, draw_keys(key, jnp.arange(draws)))
    return {
        "kl": kl.mean(0),
        "information": information.mean(0),
        "information_without": without.mean(0),
    }
