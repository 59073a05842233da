"""Blocks of latents: draws, their densities, and the KL term of each block.

A distribution over a block has the batch shape `[batch, latents]` (elementwise) or
`[batch]` and the event shape `[latents]` (joint); one that depends on the draws of
another block has the axis `samples` in front. Here both kinds are told apart and
summed, and nowhere else.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float, Int

from vaejax.distributions import draw_with_log_prob, kl_divergence
from vaejax.types import Array, Distribution, Key

Keys = Key
"""One key a draw, `[samples]`: a draw does not depend on how many there are."""


class LatentTerm(NamedTuple):
    """A block of latents at draws of its posterior; densities in nats.

    `kl` is KL(q || p) of each part of the block: of each latent, or of the whole block
    (one part) where a density is joint. It is analytic where known, else the Monte
    Carlo term log q(z) - log p(z) of each draw, which is unbiased but may be negative.
    """

    z: Float[Array, "samples batch *latents"]
    q: Distribution
    p: Distribution
    log_q: Float[Array, "samples batch"]
    log_p: Float[Array, "samples batch"]
    kl: Float[Array, "samples batch parts"]


def draw_keys(key: Key, draws: Int[Array, " samples"]) -> Keys:
    """The keys of draws by their numbers: draw s has the key fold_in(key, s)."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, draws)


def draw(q: Distribution, keys: Keys) -> tuple[Array, Array]:
    """Draws z `[samples, batch, ...]` of q, shared by all draws, and log q(z)."""
    return jax.vmap(lambda key: draw_with_log_prob(q, key))(keys)


def draw_each(q: Any, keys: Keys) -> tuple[Array, Array]:
    """Draw s of the s-th distribution along the leading axis of q, and log q(z)."""
    samples = len(keys)

    def spread(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (samples, *leaf.shape[1:]))

    def one(q: Any, key: Key) -> tuple[Array, Array]:
        return draw_with_log_prob(without_leading_axis(q), key)

    return jax.vmap(one)(jax.tree.map(spread, q), keys)


def without_leading_axis(q: Any) -> Any:
    """A distribution whose arrays lost their leading axis to vmap, and its shape with
    them: numpyro keeps shapes beside the arrays. Parts of it alike.
    """
    q._batch_shape = q.batch_shape[1:]
    for name in q.gather_pytree_data_fields():
        if isinstance(part := getattr(q, name), dist.Distribution):
            without_leading_axis(part)
    return q


@runtime_checkable
class Source(Protocol):
    """Where a model takes its latents from, block by block: draws, or given values."""

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        """Latents z `[samples, batch, ...]` of a block, and log q(z), nats.

        Args:
          block: its name in `Inference.latents`.
          q: its posterior, given the blocks that were taken before.
          p: its prior, where it is known before z is: in models inferred from the top.
          number: place in the order of the model's blocks, from 0: each has other keys.
          each: whether q has the axis `samples` in front, so that it depends on draws
            of other blocks.
        """
        ...


class FromPosterior(NamedTuple):
    """Draws of q, one key a draw."""

    keys: Keys

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        del block, p
        keys = fold_each(self.keys, number) if number else self.keys
        return draw_each(q, keys) if each else draw(q, keys)


class Given(NamedTuple):
    """Values of all blocks by name, `[samples, batch, ...]`."""

    values: Mapping[str, Array]

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        del p, number, each
        z = self.values[block]
        return z, log_density(q, z)


class Unweighed(NamedTuple):
    """Values of all blocks by name, where nobody asks for log q(z): it is 0.

    The joint density log p(x, z) needs no more, and a flow without a closed inverse
    gives no more.
    """

    values: Mapping[str, Array]

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        del p, number, each
        z = self.values[block]
        return z, jnp.zeros(z.shape[: z.ndim - q.event_dim])


def rank_of(p: Distribution) -> int:
    """Axes of a draw."""
    return len(p.batch_shape) + p.event_dim


def fold_each(keys: Keys, number: int) -> Keys:
    """The key of each draw for the block with that number."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def latent_term(
    q: Distribution, p: Distribution, z: Array, log_q: Array, analytic: bool = True
) -> LatentTerm:
    """The terms of draws z of q, whose log q(z) is given as `draw` does.

    Args:
      q: the posterior of the block, given what was drawn before it.
      p: its prior.
      z: the draws.
      log_q: their log densities, elementwise or joint.
      analytic: whether p is given by what was drawn before z, too. Where p depends on
        what is drawn after z, as in a hierarchy that is inferred upwards, KL(q || p)
        at those draws is another number than E[log q(z) - log p(z)].
    """
    log_p = log_density(p, z)
    kl = kl_divergence(q, p) if analytic else None
    if kl is None:
        joint = q.event_dim or p.event_dim
        kl = summed(log_q) - summed(log_p) if joint else log_q - log_p
    elif kl.ndim + q.event_dim < z.ndim:
        kl = kl[None]
    kl = jnp.broadcast_to(kl, (*z.shape[:2], *kl.shape[2:]))
    return LatentTerm(z, q, p, summed(log_q), summed(log_p), flat(kl))


def log_density(p: Distribution, z: Array) -> Array:
    """log p(z), nats: `[samples, batch, ...]` elementwise, `[samples, batch]` joint."""
    own = len(p.batch_shape) + p.event_dim == z.ndim
    log_prob: Callable[[Array], Array] = p.log_prob if own else jax.vmap(p.log_prob)
    found = log_prob(z)
    if found.shape[:2] != z.shape[:2]:
        raise TypeError(
            f"{type(p).__name__} gives log densities {found.shape} to latents "
            f"{z.shape}: its batch shape must begin with the batch"
        )
    return found


def summed(log_prob: Array) -> Float[Array, "samples batch"]:
    """The log density of a whole block."""
    return flat(log_prob).sum(-1)


def flat(values: Array) -> Float[Array, "samples batch parts"]:
    """All that belongs to an example along one axis."""
    return values.reshape(*values.shape[:2], -1)
