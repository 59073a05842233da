"""Metrics of models with several blocks of latents, for each block."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.inference.sources import ALL_BLOCKS, TopMeans
from vaejax.inference.terms import infer
from vaejax.metrics.base import Moments, averages, merge, moments, no_moments
from vaejax.metrics.representation import ACTIVE
from vaejax.types import Array, Batch, Key, Shape, Variables, axes_of


def block_metrics(shapes: Mapping[str, Shape]) -> Mapping[str, Metric]:
    """KL and active units of each block, by its name; empty of fewer than two.

    Args:
      shapes: the shape of the latents of each block, from the data upwards.
    """
    if len(shapes) < 2:
        return {}
    return {"block_kl": block_kl(shapes), "block_units": block_units(shapes)}


def block_kl(names: Mapping[str, Any]) -> Metric:
    """The parts of the KL, nats, one draw of z an example; `elbo_terms` has their sum.

    Args:
      names: blocks by name; the values are not read.
    """

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        i = nn.apply(infer, model)(variables, batch, key)
        return {f"kl_{name}": i.latents[name].kl.sum(-1)[0] for name in names}

    told = {
        f"kl_{name}": Quantity(f"part of {name} in the KL", "nats") for name in names
    }
    return averages(told, values)


def block_units(shapes: Mapping[str, Shape]) -> Metric:
    """Active units of each block [Burda et al. 2016], by the chain of means.

    Latents u with Var_x(E[u | x]) > 0.01, where E[u | x] is the mean of the block's
    posterior at the means of the blocks that were inferred before it.

    Args:
      shapes: the shape of the latents of each block.
    """

    def init() -> dict[str, Moments]:
        return {name: no_moments(axes_of(shape)) for name, shape in shapes.items()}

    def update(
        acc: dict[str, Moments],
        model: nn.Module,
        variables: Variables,
        batch: Batch,
        key: Key,
    ) -> dict[str, Moments]:
        del key
        i: Any = model.apply(variables, batch, TopMeans(ALL_BLOCKS), method="terms")
        return {
            name: merge(acc[name], moments(term.z[0], batch["weight"]))
            for name, term in i.latents.items()
        }

    def compute(acc: dict[str, Moments]) -> dict[str, Array]:
        return {
            f"active_units_{name}": jnp.sum(found.variance > ACTIVE)
            for name, found in acc.items()
        }

    told = {
        f"active_units_{name}": Quantity(f"those of {name}", "latents")
        for name in shapes
    }
    return Metric(init, update, compute, told)
