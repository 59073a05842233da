"""Schedules of hyper-parameters over training steps, as Optax schedules.

`steps`, at least 2, is the length of the warm-up or of one cycle.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from vaejax.types import Array


def linear_warm_up(value: float | Array, steps: int) -> optax.Schedule:
    """From 0 to `value` in `steps` steps, then constant [Bowman et al. 2016]."""
    return optax.linear_schedule(0.0, value, steps)


def cosine_warm_up(value: float | Array, steps: int) -> optax.Schedule:
    """From 0 to `value` along half a cosine in `steps` steps, then constant."""
    return lambda step: (
        value * 0.5 * (1 - jnp.cos(jnp.pi * jnp.minimum(step / steps, 1.0)))
    )


def cyclical(value: float | Array, steps: int) -> optax.Schedule:
    """Cycles of `steps` steps: a linear rise in the first half, then `value`.

    [Fu et al. 2019, eq. 6-7, with R = 0.5].
    """
    return lambda step: value * jnp.minimum(2 * jnp.mod(step, steps) / steps, 1.0)


def constant(value: float | Array, steps: int) -> optax.Schedule:
    """`value` at every step."""
    del steps
    return optax.constant_schedule(value)


SCHEDULES: Mapping[str, Callable[[float | Array, int], optax.Schedule]] = {
    "constant": constant,
    "linear": linear_warm_up,
    "cosine": cosine_warm_up,
    "cyclical": cyclical,
}
