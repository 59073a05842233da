"""The contract of models: four operations, and their defaults made of three verbs.

All that follows training - likelihoods, bounds, imputation, metrics, samples, plots,
exports - goes through the operations, so that a model with its own ones (a hierarchy,
a joint density of latents) is not known elsewhere.
"""

from collections.abc import Mapping
from typing import ClassVar, Protocol, cast

import flax.linen as nn
import jax

from vaejax.distributions import reparameterized
from vaejax.distributions.temperature import cooled
from vaejax.inference.latents import (
    Block,
    FromPosterior,
    Given,
    Keys,
    Source,
    latent_term,
)
from vaejax.inference.sources import TopBlocks
from vaejax.inference.terms import Inference, log_observed
from vaejax.types import Array, Batch, Distribution


class Verbs(Protocol):
    """The three distributions of a model with one block of latents, by name `z`.

    `batch` carries `x` and whatever the model conditions on. Densities of x are
    elementwise: the caller sums where entries are observed. Those of z may be joint.
    A part that is called with a batch, as `prior`, is a verb as it is; so no base class
    defines them: its method would be the default of that part.
    """

    def posterior(self, batch: Batch) -> Distribution:
        """q(z | x): batch shape `[batch, latents]`, or `[batch]` where it is joint."""
        ...

    def prior(self, batch: Batch) -> Distribution:
        """p(z): shapes as those of `posterior`."""
        ...

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        """p(x | z) for `z` of shape `[samples, batch, latents]`."""
        ...


class Generator(nn.Module):
    """A model that generates x from latents, by a prior and a likelihood."""

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Array:
        """Latents `[samples, batch, ...]` as `decode` takes them, by the prior.

        A temperature multiplies the standard deviations of p(z); None is 1.
        """
        p = cooled(cast(Verbs, self).prior(batch), temperature)
        return jax.vmap(lambda key: reparameterized(p, key))(keys)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        """p(x | z) for `z` `[samples, batch, ...]`: batch shape `[samples, *x]`."""
        return cast(Verbs, self).likelihood(z, batch)

    def generate(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Distribution:
        """p(x | z) at latents of the prior, one key a draw."""
        return self.decode(self.draw_prior(batch, keys, temperature), batch)


class LatentModel(Generator):
    """A joint density p(x, z) with an approximate posterior q(z | x).

    A model with one block of latents has the verbs posterior, prior and likelihood and
    nothing else; one with more overrides `terms`, `encode` and `draw_prior`, and
    `draw_blocks` where q is drawn upwards.
    """

    ignorable: ClassVar[bool] = True
    """Whether it does not matter to x why entries are missing [Rubin 1976]. A model of
    that, which says False, has `log_missing`."""

    def terms(self, batch: Batch, source: Source) -> Inference:
        """The terms of log p(x, z) - log q(z | x) at the latents of a source.

        Each block is taken once, in the order in which q draws them.
        """
        verbs = cast(Verbs, self)
        q, p = verbs.posterior(batch), verbs.prior(batch)
        z, log_q = source(Block("z", q, p))
        px = self.decode(z, batch)
        latents = {"z": latent_term(q, p, z, log_q)}
        return Inference(log_observed(px, batch), latents, px)

    def from_top(self, batch: Batch, source: Source) -> Distribution:
        """p(x | z) where a source has the top blocks of x, and draws those below."""
        return self.terms(batch, source).px

    def infer(self, batch: Batch, keys: Keys) -> Inference:
        """Draws latents of q(z | x), one key a draw, and weighs them."""
        return self.terms(batch, FromPosterior(keys))

    def weigh(self, z: Mapping[str, Array], batch: Batch) -> Inference:
        """The terms of given latents `[samples, batch, ...]`, all blocks by name."""
        return self.terms(batch, Given(z))

    def draw_blocks(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> dict[str, Array]:
        """Latents of all blocks by the prior, by name, as `weigh` takes them."""
        latents = self.terms(batch, TopBlocks(keys, 0, temperature)).latents
        return {name: term.z for name, term in latents.items()}

    def encode(self, batch: Batch) -> Distribution:
        """q(z | x) of what `decode` takes: pictures and exports show its mean."""
        return cast(Verbs, self).posterior(batch)

    def impute(self, batch: Batch, keys: Keys) -> Inference:
        """Weighted draws of p(z | x_observed), for what is missing of x."""
        return self.infer(batch, keys)

    def log_missing(self, x: Array, batch: Batch) -> Array:
        """log p(m | x), nats `[samples, batch]`, for complete x."""
        raise NotImplementedError(f"{type(self).__name__} is no model of missingness")
