"""Schedules of hyper-parameters over training steps, as Optax schedules.

`steps`, at least 2, is the length of the warm-up or of one cycle.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from vaejax.runtime.limits import MOST
from vaejax.types import Array


def linear_warm_up(value: float | Array, steps: int) -> optax.Schedule:
    """From 0 to `value` in `steps` steps, then constant [Bowman et al. 2016]."""
    return optax.linear_schedule(0.0, value, steps)


def cosine_warm_up(value: float | Array, steps: int) -> optax.Schedule:
    """From 0 to `value` along half a cosine in `steps` steps, then constant."""
    return lambda step: (
        value * 0.5 * (1 - jnp.cos(jnp.pi * jnp.minimum(step / steps, 1.0)))
    )


def epoch_warm_up(epochs: int, epoch_steps: int) -> optax.Schedule:
    """epoch / epochs, at most 1, where the first epoch is 1: constant within an epoch.

    The warm-up of the code of Tomczak & Welling 2018 and van den Berg et al. 2018.
    """
    length = max(epochs, 1)
    return lambda step: jnp.minimum((jnp.asarray(step) // epoch_steps + 1) / length, 1)


def cyclical(value: float | Array, steps: int) -> optax.Schedule:
    """Cycles of `steps` steps: a linear rise in the first half, then `value`.

    [Fu et al. 2019, eq. 6-7, with R = 0.5].
    """
    return lambda step: value * jnp.minimum(2 * jnp.mod(step, steps) / steps, 1.0)


def from_step(value: float | Array, start: int) -> optax.Schedule:
    """0 before the step `start`, `value` from there on."""
    return lambda step: jnp.where(jnp.asarray(step) >= start, value, 0.0)


def constant(value: float | Array, steps: int) -> optax.Schedule:
    """`value` at every step."""
    del steps
    return optax.constant_schedule(value)


STAGES = 8
"""Stages in which the learning rate falls to a tenth [Burda et al. 2016, sec. 5]."""


def stage_ends() -> tuple[int, ...]:
    """Epochs after which each stage ends: stage i, from 0, takes 3^i of them."""
    return tuple((3 ** (stage + 1) - 1) // 2 for stage in range(STAGES))


def stage_rates(
    learning_rate: float | Array, digits: int | None = None
) -> list[float | Array]:
    """The rate of each stage, learning_rate * 10^(-i/7).

    With `digits` 10 * 10^(-i/7) is rounded to so many of them, as the code of Burda et
    al. 2016 does with 1.
    """
    tenths = [10 ** (1 - stage / (STAGES - 1)) for stage in range(STAGES)]
    if digits is not None:
        tenths = [round(each, digits) for each in tenths]
    return [learning_rate * (each / 10) for each in tenths]


def staged(
    learning_rate: float | Array, epoch_steps: int, digits: int | None = None
) -> optax.Schedule:
    """The rate of the stage that a step is in; after the last one it stays.

    It does not depend on the length of training: a run may end after any stage, and
    takes up the next one where it is prolonged.
    """
    *ends, _ = (min(end * epoch_steps, MOST) for end in stage_ends())
    rates = stage_rates(learning_rate, digits)
    return lambda step: jnp.stack([jnp.float32(rate) for rate in rates])[
        jnp.sum(jnp.asarray(step) >= jnp.asarray(ends, jnp.int32))
    ]


def stage_words(epochs: int) -> str:
    """The line about the stages that so many epochs complete."""
    ends = stage_ends()
    done = sum(end <= epochs for end in ends)
    rest = epochs - (0, *ends)[done]
    begun = (
        f"of {3**done:,} epochs of the next" if done < STAGES else "at the last rate"
    )
    more = f", and {rest:,} {begun}" if rest else ""
    return f"--decay stages: {done} of {STAGES} stages in {epochs:,} epochs{more}"


SCHEDULES: Mapping[str, Callable[[float | Array, int], optax.Schedule]] = {
    "constant": constant,
    "linear": linear_warm_up,
    "cosine": cosine_warm_up,
    "cyclical": cyclical,
}
