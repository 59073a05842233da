"""Metrics of the latent representation."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.metrics.base import Moments, merge, moments, no_moments
from vaejax.types import Array, Batch, Key, Shape, Variables, axes_of


def representation_metrics(latents: Shape) -> Mapping[str, Metric]:
    """The metrics of every model with an encoder, whose latents have this shape."""
    return {"active_units": active_units(latents), "count": count()}


ACTIVE = 0.01
"""Variance of a posterior mean over x above which its latent is in use."""


def active_units(latents: Shape, threshold: float = ACTIVE) -> Metric:
    """Latents u with Var_x(E_q[u | x]) > threshold, counted [Burda et al. 2016]."""

    def update(
        acc: Moments, model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> Moments:
        del key
        q: Any = model.apply(variables, batch, method="encode")
        return merge(acc, moments(q.mean, batch["weight"]))

    def compute(acc: Moments) -> dict[str, Array]:
        return {"active_units": jnp.sum(acc.variance > threshold)}

    told = Quantity("latents that carry information", "latents", in_line=True)
    return Metric(
        lambda: no_moments(axes_of(latents)), update, compute, {"active_units": told}
    )


def count() -> Metric:
    """Number of examples in the split."""

    def update(
        acc: Array, model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> Array:
        del model, variables, key
        return acc + batch["weight"].sum()

    def compute(acc: Array) -> dict[str, Array]:
        return {"examples": acc.astype(jnp.int32)}

    told = {"examples": Quantity("examples of the split")}
    return Metric(lambda: jnp.zeros(()), update, compute, told)
