"""Steps that a player does not take because its gradient is too large or not finite.

Deep hierarchies of latents meet such gradients, rarely and without warning; the next
batch is fine [Child 2021]. A skipped step changes neither the parts of the
player nor its optimizer, and is counted in the log.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax.types import Metrics

SKIPPED, NORM = "skipped", "gradient_norm"
STUCK = 10
"""An interval of so many steps, all of them skipped, ends the run: it would not move
again, as the gradients of later batches are of the same parameters.
"""


def unless_skipped(
    limit: float, gradient: Any, after: Any, before: Any
) -> tuple[Any, Metrics]:
    """The state of a player after its step, or before it if the step is skipped.

    Args:
      limit: the largest global norm of a gradient that is followed.
      gradient: of the player, before it is clipped.
      after: its arrays, had it taken the step.
      before: the same arrays as they were.

    Returns:
      `after` or `before`, and the terms `gradient_norm` and `skipped`, 1 or 0. A norm
      that is not finite is not followed.
    """
    norm = optax.tree.norm(gradient)
    taken = norm <= limit
    kept = jax.tree.map(lambda a, b: jnp.where(taken, a, b), after, before)
    return kept, {NORM: norm, SKIPPED: 1.0 - taken.astype(jnp.float32)}


def skipped_steps(history: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether any player skipped each step, bool `[steps]`."""
    found = np.zeros(len(next(iter(history.values()))), bool)
    for name, values in history.items():
        if name.rpartition("/")[2] == SKIPPED:
            found |= values > 0
    return found


def means_of(history: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means of terms over steps, without what is not finite in skipped steps.

    A term with no finite value is left out.
    """
    skipped = skipped_steps(history)
    means = {}
    for name, values in history.items():
        kept = values[~skipped | np.isfinite(values)]
        if len(kept):
            means[name] = float(kept.mean(dtype=np.float64))
    return means
