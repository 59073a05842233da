"""Priors that are flows: a standard normal, transformed by learned maps."""

from itertools import pairwise

import flax.linen as nn
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions import Normal
from vaejax.distributions.autoregressive import (
    Coupling,
    Dense,
    MaskedAutoregressive,
    kept_size,
)
from vaejax.distributions.bijections import Bijection, Reversed
from vaejax.distributions.flow import Flow
from vaejax.models.posteriors import SMALL, made_network
from vaejax.types import Array, Batch, Distribution, Size


class CouplingPrior(nn.Module):
    """RealNVP: halves of the latents scale and shift each other [Dinh et al. 2017]."""

    latents: int
    layers: int
    hidden: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        kept = kept_size(self.latents)
        widths = (kept, self.hidden, self.hidden, 2 * (self.latents - kept))
        maps: list[Bijection] = []
        for number in range(self.layers):
            maps += [Coupling(dense_network(self, f"net_{number}", widths)), Reversed()]
        return Flow(standard(batch["x"].shape[0], self.latents), tuple(maps))


class AutoregressivePrior(nn.Module):
    """A masked autoregressive flow, MAF [Papamakarios et al. 2017].

    Its density takes one pass through each map, a draw one for each latent.
    """

    latents: int
    layers: int
    hidden: int

    @nn.compact
    def __call__(self, batch: Batch) -> Distribution:
        maps: list[Bijection] = []
        for number in range(self.layers):
            hidden = (self.hidden, self.hidden)
            made = made_network(self, f"made_{number}", self.latents, hidden)
            maps += [MaskedAutoregressive(made), Reversed()]
        return Flow(standard(batch["x"].shape[0], self.latents), tuple(maps))


def standard(examples: Size, latents: int) -> Distribution:
    """N(0, I), joint over the latents of each example."""
    zeros = jnp.zeros((examples, latents))
    return dist.Independent(Normal(zeros, jnp.ones_like(zeros)), 1, validate_args=False)


def dense_network(module: nn.Module, name: str, widths: tuple[int, ...]) -> Dense:
    """A network as arrays, its parameters those of the calling module."""
    kernels: list[Array] = []
    biases: list[Array] = []
    last = len(widths) - 2
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        start = SMALL if number == last else nn.initializers.lecun_normal()
        shape = (inputs, outputs)
        kernels.append(module.param(f"{name}_kernel_{number}", start, shape))
        zeros = nn.initializers.zeros
        biases.append(module.param(f"{name}_bias_{number}", zeros, shape[1:]))
    return Dense(tuple(kernels), tuple(biases))
