"""Hierarchies of vectors: the two-level HVAE and the ladder VAE."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions import Normal
from vaejax.distributions.kl import with_rank
from vaejax.inference.latents import Source, joined
from vaejax.models.holes import read_input
from vaejax.models.topdown import Blocks, Terms, TopDown
from vaejax.nn.layers import Norm
from vaejax.types import Array, Batch, Distribution

LEAST_VARIANCE = 1e-5
"""Added to variances that come of a softplus [Sonderby et al. 2016, code]."""


class HVAE(TopDown):
    """p(z2) p(z1 | z2) p(x | z1, z2), inferred by q(z2 | x) q(z1 | x, z2).

    [Tomczak & Welling 2018, sec. 3]. `decode` takes z1 and z2 as one vector.
    """

    encoder: nn.Module
    lower_encoder: nn.Module
    decoder: nn.Module
    lower_decoder: nn.Module
    prior: nn.Module

    def decoded(self) -> tuple[str, ...]:
        return ("z1", "z2")

    def ascend(self, batch: Batch) -> Distribution:
        return self.encoder(batch)

    def descend(
        self, batch: Batch, source: Source, read: Distribution | None
    ) -> tuple[Terms, Distribution]:
        blocks = Blocks(source)
        z2 = blocks.take("z2", read, self.prior(batch))
        q1 = None if read is None else self.lower_encoder(batch, z2)
        z1 = blocks.take("z1", q1, self.lower_decoder(z2))
        return blocks.from_data(), self.decode(joined([z1, z2]), batch)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)


class JointEncoder(nn.Module):
    """q(z1 | x, z2): features of x and of z2, side by side, through a joint body."""

    of_x: nn.Module
    of_z: nn.Module
    joint: nn.Module
    head: nn.Module
    reader: nn.Module | None = None

    def __call__(self, batch: Batch, z: Array) -> Distribution:
        h = self.of_x(read_input(self.reader, batch))
        h = jnp.broadcast_to(h, (*z.shape[:-1], h.shape[-1]))
        return self.head(self.joint(jnp.concatenate([h, self.of_z(z)], -1)))


class LadderVAE(TopDown):
    """p(z_L) ... p(z_1 | z_2) p(x | z_1), whose posterior corrects the prior.

    A deterministic way up gives a Gaussian q^_i to each block; on the way down the
    posterior of block i is the product of q^_i and of a Gaussian that depends on the
    block above, by their precisions [Sonderby et al. 2016]. The latter is
    p(z_i | z_i+1) itself, or comes from networks of its own, `posterior_down`.
    `decode` takes z1, as x depends on nothing else.
    """

    encoder: nn.Module
    down: nn.Module
    decoder: nn.Module
    prior: nn.Module
    posterior_down: nn.Module | None = None

    def decoded(self) -> tuple[str, ...]:
        return ("z1",)

    def ascend(self, batch: Batch) -> Sequence[Distribution]:
        return self.encoder(batch)

    def descend(
        self, batch: Batch, source: Source, read: Sequence[Distribution] | None
    ) -> tuple[Terms, Distribution]:
        blocks, rungs = Blocks(source), self.down.rungs
        q: Any = None if read is None else read[-1]
        z = blocks.take(f"z{len(rungs) + 1}", q, self.prior(batch))
        for i in reversed(range(len(rungs))):
            p: Any = self.down(z, i)
            if read is not None:
                of_x: Any = read[i]
                other = self.posterior_down
                q = precision_weighted(of_x, other(z, i) if other else p)
            z = blocks.take(f"z{i + 1}", q, p)
        return blocks.from_data(), self.decode(z, batch)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)


def precision_weighted(a: dist.Normal, b: dist.Normal) -> dist.Normal:
    """The product of two Gaussian densities [Sonderby et al. 2016].

    Its precision is the sum of theirs, its mean is that of theirs by precision.
    """
    rank = max(len(a.batch_shape), len(b.batch_shape))
    (m, s), (n, t) = ([with_rank(v, rank) for v in (e.loc, e.scale)] for e in (a, b))
    first, second = 1 / jnp.square(s), 1 / jnp.square(t)
    variance = 1 / (first + second)
    mean = variance * (first * m + second * n)
    return Normal(mean, jnp.broadcast_to(jnp.sqrt(variance), mean.shape))


class LadderEncoder(nn.Module):
    """The way up: a Gaussian q^_i for each block, from the data upwards.

    The body above reads the features of the one below, or with `means_up` the means of
    its Gaussian, as the authors' code does.
    """

    bodies: Sequence[nn.Module]
    heads: Sequence[nn.Module]
    means_up: bool = False
    reader: nn.Module | None = None

    def __call__(self, batch: Batch) -> tuple[Distribution, ...]:
        h, found = read_input(self.reader, batch), []
        for body, head in zip(self.bodies, self.heads, strict=True):
            h = body(h)
            found.append(head(h))
            h = found[-1].mean if self.means_up else h
        return tuple(found)


class TopOf(nn.Module):
    """q(z_L | x) of a `LadderEncoder`, which a VampPrior is made of."""

    encoder: nn.Module

    def __call__(self, batch: Batch) -> Distribution:
        return self.encoder(batch)[-1]


class LadderPrior(nn.Module):
    """Gaussians over each block but the top one, given the block above it."""

    rungs: Sequence[nn.Module]

    def __call__(self, z: Array, block: int) -> Distribution:
        return self.rungs[block](z)


class NormedHead(nn.Module):
    """A diagonal Gaussian, its mean and variance by a normalized dense layer each.

    The variance is a softplus of it [Sonderby et al. 2016], and begins near
    log(1 + e) where there is no norm.
    """

    latents: int
    norm: str = "none"

    @nn.compact
    def __call__(self, h: Array) -> Distribution:
        mean = Norm(self.norm)(nn.Dense(self.latents)(h))
        ones = nn.initializers.ones
        spread = Norm(self.norm)(nn.Dense(self.latents, bias_init=ones)(h))
        return Normal(mean, jnp.sqrt(nn.softplus(spread) + LEAST_VARIANCE))
