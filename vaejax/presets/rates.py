"""Learning rates of layers that read very wide tables of counts."""

from typing import Any

import jax
import optax

from vaejax.data import Spec
from vaejax.types import Array

READ = 1000
"""Counts that a unit may read at the rate of the settings."""


def for_counts(
    optimizer: optax.GradientTransformation, spec: Spec
) -> optax.GradientTransformation:
    """Smaller steps for layers that read a table with more than `READ` counts.

    Adam moves every weight by the rate, however small its gradient, and log(1 + n) has
    one sign: a unit that reads D counts moves by D times the rate. With 20,000, latents
    and means ran off to infinity within three steps. So that a unit moves as one of
    `READ` would, the rate falls as 1 / D. The state remains the optimizer's own.
    """
    counts = sum(column.kind == "count" for column in spec.columns)
    if counts <= READ:
        return optimizer

    def shrink(path: tuple[Any, ...], update: Array) -> Array:
        reads = path[-1] == jax.tree_util.DictKey("kernel") and update.ndim == 2
        wide = reads and update.shape[0] >= counts
        return update * (READ / update.shape[0]) if wide else update

    def move(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = optimizer.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(shrink, updates), state

    return optax.GradientTransformation(optimizer.init, move)
