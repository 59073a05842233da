"""The aggregated posterior against the prior."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.latents import LatentTerm, draw_keys, flat, log_density
from vaejax.inference.terms import Inference
from vaejax.types import Array, Batch, Key, Variables


def index_code_terms(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    others: Batch,
    *,
    draws: int,
    marginals: bool = True,
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
      marginals: whether to split KL(q(z) || p) further, where q(z | x) has one block
        of independent latents.

    Returns:
      The means over draws, of each example: `kl`, log q(z | x) / p(z);
      `information`, log q(z | x) / q(z), which is at most log N and in expectation
      below I of all data; and `information_without`, the same with 1 / (N - 1) times
      the sum over the other examples, in expectation above it
      [Poole et al. 2019]. With the marginals, KL(q(z) || p) is the sum of the
      `total_correlation`, log q(z) - sum_j log q(z_j), and of `dimension_kl`, sum_j
      log q(z_j) - log p(z) [Chen et al. 2018b, eq. 2]: with the information these two
      add up to `kl`.
    """
    rows = batch["row"]
    count = others["x"].shape[0]

    def one(key: Key) -> dict[str, Array]:
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
        found = {
            "kl": (i.log_qz - i.log_pz)[0],
            "information": own - mixed,
            "information_without": own - without,
        }
        if marginals and is_one_block_of_independent(every):
            single = log_marginals(every.latents["z"]).sum(-1)
            found["total_correlation"] = mixed - single
            found["dimension_kl"] = single - i.log_pz[0]
        return found

    found = jax.lax.map(one, draw_keys(key, jnp.arange(draws)))
    return {name: values.mean(0) for name, values in found.items()}


def is_one_block_of_independent(i: Inference) -> bool:
    """Whether there is one block, whose density is a product over its latents."""
    return list(i.latents) == ["z"] and i.latents["z"].q.event_dim == 0


def log_marginals(term: LatentTerm) -> Float[Array, "samples latents"]:
    """log of the mean over examples of q(z_j | x_n) at each draw, nats.

    `term` is of draws `[samples, examples, *latents]`, the same for all examples.
    """
    each = flat(log_density(term.q, term.z))
    return jax.nn.logsumexp(each, axis=1) - jnp.log(each.shape[1])
