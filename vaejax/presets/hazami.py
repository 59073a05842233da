"""Training by the recipes of Hazami et al. 2022: Efficient-VDVAE."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vaejax import objectives
from vaejax.configs import Training
from vaejax.experiment import Experiment
from vaejax.models import DeepVAE
from vaejax.presets import assemble as a
from vaejax.presets.deep_parts import WARM_UP, deep_experiment, own_rate
from vaejax.presets.optimize import clipped, optimized_by
from vaejax.types import Array


@dataclasses.dataclass(frozen=True)
class Hazami:
    """The differences between the recipes of Hazami et al. 2022."""

    numbers: int
    """Numbers of an image, which their loss is divided by."""
    least_rate: float
    start: int
    """Step at which the learning rate begins to fall."""
    fall: int
    """Steps in which it falls."""
    warm_up: int
    """Steps in which the weight of the KL term rises."""
    balanced: int
    """Steps in which KL terms are balanced."""


def efficient_experiment(
    model: DeepVAE, view: a.View, training: Training, recipe: Hazami
) -> Experiment:
    """Training by a recipe of Hazami et al. 2022."""
    schedules = {
        "beta": late_warm_up(recipe.warm_up),
        "balance": lambda step: jnp.float32(jnp.asarray(step) <= recipe.balanced),
    }
    objective = objectives.balanced_elbo
    made = deep_experiment(model, view, training, objective, schedules)
    rate = narrow_cosine(
        own_rate(training), recipe.least_rate, recipe.start, recipe.fall
    )
    adamax = optax.chain(
        optax.scale_by_adamax(0.9, 0.999, 1e-8 * recipe.numbers),
        optax.add_decayed_weights(0.01, mask=decayed),
        optax.scale_by_learning_rate(rate),
    )
    return optimized_by(made, clipped(training, adamax))


def late_warm_up(steps: int) -> optax.Schedule:
    """(step - 21) / (21 + steps), within [1e-4, 1]: the weight of the KL term."""
    delay = 21

    def at(step: Any) -> Array:
        return jnp.clip((jnp.asarray(step) - delay) / (delay + steps), 1e-4, 1.0)

    return at


def narrow_cosine(rate: float, least: float, start: int, steps: int) -> optax.Schedule:
    """A warm-up to `rate`, which stays until `start` and then falls to `least`."""
    fall = optax.cosine_decay_schedule(rate, steps, least / rate)
    return lambda step: jnp.where(
        jnp.asarray(step) < start,
        rate * jnp.minimum(1.0, step / WARM_UP),
        fall(jnp.maximum(step - start, 0)),
    )


UNDECAYED = ("input", "output", "skip_", "project_", "moments")


def decayed(params: Any) -> Any:
    """Whether each parameter decays: kernels of blocks and of resampling layers."""

    def of(path: tuple[Any, ...], leaf: Array) -> bool:
        del leaf
        names = [str(part.key) for part in path]
        return names[-1] == "kernel" and not any(
            name.startswith(UNDECAYED) for name in names
        )

    return jax.tree_util.tree_map_with_path(of, params)
