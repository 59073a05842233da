"""A step as one device sees it: its own part of the batch, under shard_map or pmap.

Under jit a step is written and computed of the whole batch, and this module is not
needed. Here each device draws noise of its own, and gradients, terms and statistics are
means over devices; BatchNorm's are of the whole batch all the same (`layers`). What an
objective makes of pairs of examples is of each device's pairs.
"""

from collections.abc import Callable
from typing import Any

import jax

from vaejax.experiment import Experiment, TrainState
from vaejax.training import step as game
from vaejax.types import Batch, Key, Metrics

AXIS = "data"


def sharded_train_step(
    experiment: Experiment, root: Key, state: TrainState, raw: Batch
) -> tuple[TrainState, Metrics]:
    """`step.train_step` of all devices' parts of a batch; all have the same results."""
    own = jax.random.fold_in(root, jax.lax.axis_index(AXIS))
    return game.train_step(experiment, own, state, raw, gradient=mean_gradient)


def mean_gradient(
    loss: game.Loss,
) -> Callable[[dict[str, Any]], tuple[dict[str, Any], Any]]:
    """The means over devices of a gradient and of what the loss gives beside."""

    def gradient(params: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        # Of what is the same on all devices shard_map would sum the gradient.
        own = jax.tree.map(lambda a: jax.lax.pcast(a, AXIS, to="varying"), params)
        return jax.lax.pmean(game.whole_gradient(loss)(own), AXIS)

    return gradient
