"""Blocks of latents: draws, their densities, and the KL term of each block.

A distribution over a block has the batch shape `[batch, latents]` (elementwise) or
`[batch]` and the event shape `[latents]` (joint); one that depends on the draws of
another block has the axis `samples` in front. Here both kinds are told apart and
summed, and nowhere else.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
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


class Block(NamedTuple):
    """A block of latents before it has values, as a model asks a source for them."""

    name: str
    """Key of the block in `Inference.latents`."""
    q: Distribution
    """Its posterior, given the blocks that were taken before."""
    p: Distribution | None = None
    """Its prior, where that is known before z is: in models inferred from the top."""
    number: int | Array = 0
    """Place in the order of the model's blocks: each has other keys. An array within a
    loop over blocks, none of which is the first."""
    each: bool = False
    """Whether q has the axis `samples` in front: it depends on draws of others."""

    def keys(self, keys: Keys) -> Keys:
        """The keys of its draws, of those of all blocks."""
        first = isinstance(self.number, int) and self.number == 0
        return keys if first else fold_each(keys, self.number)

    def drawn(self, keys: Keys) -> tuple[Array, Array]:
        """Draws of q, one key a draw for all blocks, and log q(z)."""
        draws = draw_each if self.each else draw
        return draws(self.q, self.keys(keys))


Source = Callable[[Block], tuple[Array, Array]]
"""Where a model takes its latents from, block by block: draws, or given values.

Returns z `[samples, batch, ...]` and log q(z), nats, elementwise or joint as q is.
"""


@runtime_checkable
class Loops(Protocol):
    """A source that can serve equal blocks, one after the other, within one loop."""

    def in_loop(self, names: Sequence[str], first: int) -> Source | None:
        """The source of blocks by name, numbered from `first`, where a block's name is
        not known and its number is an array; None where they differ too much.
        """
        ...


class FromPosterior(NamedTuple):
    """Draws of q, one key a draw."""

    keys: Keys

    def __call__(self, block: Block) -> tuple[Array, Array]:
        return block.drawn(self.keys)

    def in_loop(self, names: Sequence[str], first: int) -> Source:
        """Draws do not depend on names."""
        del names, first
        return self


class Given(NamedTuple):
    """Values of all blocks by name, `[samples, batch, ...]`."""

    values: Mapping[str, Array]

    def __call__(self, block: Block) -> tuple[Array, Array]:
        z = self.values[block.name]
        return z, log_density(block.q, z)

    def in_loop(self, names: Sequence[str], first: int) -> Source:
        """Values by number."""
        return values_by_number(Given, self.values, names, first)


class Unweighed(NamedTuple):
    """Values of all blocks by name, where nobody asks for log q(z): it is 0.

    The joint density log p(x, z) needs no more, and a flow without a closed inverse
    gives no more.
    """

    values: Mapping[str, Array]

    def __call__(self, block: Block) -> tuple[Array, Array]:
        z = self.values[block.name]
        return z, jnp.zeros(z.shape[: z.ndim - block.q.event_dim])

    def in_loop(self, names: Sequence[str], first: int) -> Source:
        """Values by number."""
        return values_by_number(Unweighed, self.values, names, first)


def values_by_number(
    kind: Callable[[Mapping[str, Array]], Source],
    values: Mapping[str, Array],
    names: Sequence[str],
    first: int,
) -> Source:
    """A source of values that finds those of a block by its number."""
    stacked = jnp.stack([values[name] for name in names])
    return lambda block: kind({block.name: stacked[block.number - first]})(block)


def joined(blocks: Sequence[Array]) -> Float[Array, "samples batch latents"]:
    """Latents of several blocks, of any shape, as one vector for each example."""
    return jnp.concatenate([flat(z) for z in blocks], -1)


def split_blocks(z: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The blocks that `joined` made one vector of, by their shapes in that order."""
    sizes = [math.prod(axes) for axes in shapes.values()]
    parts = jnp.split(z, list(itertools.accumulate(sizes))[:-1], -1)
    return {
        name: part.reshape(*z.shape[:-1], *axes)
        for (name, axes), part in zip(shapes.items(), parts, strict=True)
    }


def rank_of(p: Distribution) -> int:
    """Axes of a draw."""
    return len(p.batch_shape) + p.event_dim


def fold_each(keys: Keys, number: int | Array) -> Keys:
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
    own = rank_of(p) == z.ndim
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
