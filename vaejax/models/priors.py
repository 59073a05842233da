"""Priors p(z): parts that are called with a batch, of which they need the size.

The mixtures are joint densities over the latents of an example.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions import Normal
from vaejax.distributions.categories import Categories
from vaejax.types import Array, Batch, Distribution, Shape, Size, axes_of

PriorName = Literal["standard", "mixture", "vamp", "realnvp", "maf"]
"""The settings' names of the priors here; `presets.priors` builds each."""


class StandardNormal(nn.Module):
    """p(z) = N(0, I), over a vector of latents or a map of that shape."""

    latents: Shape

    def __call__(self, batch: Batch) -> Distribution:
        shape = (batch["x"].shape[0], *axes_of(self.latents))
        return Normal(jnp.zeros(shape), jnp.ones(shape))


class MixturePrior(nn.Module):
    """p(z) = sum_k pi_k N(z; m_k, diag s_k^2), all of them learned."""

    latents: Shape
    components: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        shape = (self.components, *axes_of(self.latents))
        logits = self.param("logits", nn.initializers.zeros, shape[:1])
        means = self.param("means", nn.initializers.normal(1.0), shape)
        log_scales = self.param("log_scales", nn.initializers.zeros, shape)
        each = Normal(means, jnp.exp(log_scales))
        return mixture(logits, each, batch["x"].shape[0])


class VampPrior(nn.Module):
    """p(z) = 1/K sum_k q(z | u_k), u_k learned [Tomczak & Welling 2018, eq. 9].

    `encoder` is that of the posterior, the same instance: its weights are of the part
    `encoder`, and are learned as posterior and as prior. Of an encoder with a label
    pseudo-inputs have labels too, learned shares of the classes, so that the prior is
    the same for all labels of x. Pseudo-inputs are in [0, 1] where the data is: `bound`
    maps there what `begin` initializes.
    """

    encoder: nn.Module
    components: int
    unit: bool
    classes: int = 0
    bound: Callable[[Array], Array] = nn.sigmoid
    begin: Callable[..., Array] = nn.initializers.normal(1.0)

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        shape = (self.components, *batch["x"].shape[1:])
        x = self.param("inputs", self.begin, shape)
        pseudo = {"x": self.bound(x) if self.unit else x}
        if self.classes:
            shape = (self.components, self.classes)
            logits = self.param("labels", nn.initializers.normal(1.0), shape)
            pseudo["y"] = nn.softmax(logits)
        even = jnp.zeros(self.components)
        return mixture(even, self.encoder(pseudo), batch["x"].shape[0])


class UniformCategories(nn.Module):
    """p(z) of independent categorical variables, all values alike."""

    latents: int
    categories: int

    def __call__(self, batch: Batch) -> Distribution:
        shape = (batch["x"].shape[0], self.latents, self.categories)
        return Categories(jnp.zeros(shape))


def mixture(logits: Array, each: Any, examples: Size) -> Distribution:
    """The mixture of Gaussians `[components, *latents]`, for each of the examples.

    They are elementwise normals, or joint over the latents.
    """
    weights = jnp.broadcast_to(logits[None], (examples, len(logits)))
    return dist.MixtureSameFamily(
        dist.Categorical(logits=weights, validate_args=False),
        repeated(each, examples),
        validate_args=False,
    )


def repeated(each: Any, examples: Size) -> Distribution:
    """Gaussians `[components]` for each of the examples, joint over latents."""

    def repeat(array: Any) -> Array:
        array = jnp.asarray(array)
        return jnp.broadcast_to(array[None], (examples, *array.shape))

    if isinstance(each, dist.MultivariateNormal):
        loc, factor = repeat(each.loc), repeat(each.scale_tril)
        return dist.MultivariateNormal(loc, scale_tril=factor, validate_args=False)
    if isinstance(each, dist.LowRankMultivariateNormal):
        parts = (repeat(a) for a in (each.loc, each.cov_factor, each.cov_diag))
        return dist.LowRankMultivariateNormal(*parts, validate_args=False)
    normal = Normal(repeat(each.loc), repeat(each.scale))
    return dist.Independent(normal, len(each.batch_shape) - 1, validate_args=False)
