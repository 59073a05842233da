"""Flows by an ordinary differential equation: their paths and their densities.

A velocity v(x, t) moves draws of a standard normal at t = 0 to draws of the model at
t = 1. The numbers of steps are given, so that a program has one size, and what the
steps cost in accuracy is measured beside.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import Normal
from vaejax.errors import InputError
from vaejax.inference.latents import summed
from vaejax.types import Array, Key

Velocity = Callable[[Array, Array], Array]
"""v(x, t) of x `[rows, *shape]` at a scalar time t, of the shape of x."""
Slope = Callable[[Any, Array], Any]
"""The derivative of a tree of arrays at a scalar time, as such a tree."""
MethodName = Literal["euler", "heun"]
"""The names of methods of integration in settings."""


class OdePath(NamedTuple):
    """How a solution is followed: its number of steps, and the method."""

    steps: int = 50
    method: MethodName = "heun"

    @property
    def evaluations(self) -> int:
        """Evaluations of the velocity on the whole path."""
        return self.steps * (1 if self.method == "euler" else 2)


def advanced(state: Any, slope: Any, time: Array | float) -> Any:
    """state + time * slope, array by array."""
    return jax.tree.map(lambda s, d: s + time * d, state, slope)


def euler_step(slope: Slope, state: Any, t: Array, h: float) -> Any:
    """The state after a time h by the slope at t; the error of a path is O(h)."""
    return advanced(state, slope(state, t), h)


def heun_step(slope: Slope, state: Any, t: Array, h: float) -> Any:
    """The state after h by the mean of both ends' slopes; a path's error is O(h^2)."""
    first = slope(state, t)
    second = slope(advanced(state, first, h), t + h)
    return advanced(state, jax.tree.map(lambda a, b: (a + b) / 2, first, second), h)


METHODS: Mapping[str, Callable[[Slope, Any, Array, float], Any]] = {
    "euler": euler_step,
    "heun": heun_step,
}


def integrate(slope: Slope, state: Any, path: OdePath, start: float, end: float) -> Any:
    """The state at `end` of a solution that is `state` at the time `start`.

    Args:
      slope: the derivative of the state.
      state: a tree of arrays.
      path: number of steps, of equal length, and method.
      start: the time of `state`.
      end: the time of the result, before or after `start`.

    Returns:
      A tree like `state`.

    Raises:
      InputError: there is no whole step, or no such method.
    """
    if path.method not in METHODS:
        known = ", ".join(get_args(MethodName))
        raise InputError(f"method {path.method!r} is unknown: choose of {known}")
    if path.steps < 1:
        raise InputError(f"{path.steps} steps follow no path: choose at least 1")
    h = (end - start) / path.steps
    step = METHODS[path.method]

    def body(state: Any, number: Array) -> tuple[Any, None]:
        return step(slope, state, start + h * number, h), None

    return jax.lax.scan(body, state, jnp.arange(path.steps, dtype=jnp.float32))[0]


class OdeDensity(NamedTuple):
    """Log densities by the change of variables along a path, nats.

    Two errors remain, and are told: of the probes by which a divergence is estimated,
    and of the steps.
    """

    log_p: Float[Array, " rows"]
    probe_error: Float[Array, " rows"]
    """Standard error over probes; 0 where the divergence is exact."""
    step_error: Float[Array, " rows"]
    """Distance from the value by half the steps, which is more than the error."""
    z: Float[Array, "rows *shape"]
    """The beginning of each path, at t = 0."""


def ode_density(
    velocity: Velocity, x: Array, path: OdePath, key: Key, probes: int = 0
) -> OdeDensity:
    """log p(x) = log N(z; 0, I) - integral over t of div v(x_t, t), nats.

    [Chen et al. 2018, eq. 8]. The divergence is the trace of the Jacobian: exact by
    forward-mode derivatives in all directions, which cost one evaluation for each
    entry of x; or estimated as e^T (dv/dx) e with random signs e, which are the same
    along a path, so that log p is unbiased but for the steps [Grathwohl et al. 2019,
    sec. 3.1].

    Args:
      velocity: v(x, t), row by row: a row has no influence on another.
      x: `[rows, *shape]`.
      path: number of steps and method.
      key: of the signs.
      probes: estimates of the divergence that are averaged; 0: it is exact.

    Returns:
      The log densities, their errors, and the beginnings of the paths.

    Raises:
      InputError: of one probe, or of one step, no error can be told.
    """
    if probes < 0 or probes == 1:
        raise InputError(
            f"{probes} probes tell no error: give at least 2, or 0 for exact ones"
        )
    directions = random_signs(key, probes, x) if probes else unit_vectors(x)
    solve = partial(_solved, velocity, x, directions, bool(probes))
    (log_p, z), (halved, _) = solve(path), solve(halved_path(path))
    error = jnp.zeros(len(x))
    if probes:
        error = jnp.std(log_p, 0, ddof=1) / math.sqrt(probes)
    found, rough = log_p.mean(0), halved.mean(0)
    return OdeDensity(found, error, jnp.abs(found - rough), z)


def halved_path(path: OdePath) -> OdePath:
    """The path in half the steps; InputError where there is but one."""
    if path.steps < 2:
        raise InputError(
            f"{path.steps} steps tell no error of a density: choose at least 2"
        )
    return path._replace(steps=path.steps // 2)


def unit_vectors(x: Array) -> Float[Array, "entries rows *shape"]:
    """One in one entry of each row, zero in all others, for each entry."""
    size = math.prod(x.shape[1:])
    each = jnp.eye(size).reshape(size, 1, *x.shape[1:])
    return jnp.broadcast_to(each, (size, *x.shape))


def random_signs(key: Key, number: int, x: Array) -> Float[Array, "probes rows *shape"]:
    """-1 or 1 in each entry, with equal chances."""
    return jax.random.rademacher(key, (number, *x.shape), jnp.float32)


def _solved(
    velocity: Velocity, x: Array, directions: Array, estimated: bool, path: OdePath
) -> tuple[Float[Array, "probes rows"], Array]:
    """log p(x) by each estimate, or by the one that is exact, and z."""

    def slope(state: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        v, push = jax.linearize(lambda x: velocity(x, t), state[0])
        traces = summed(directions * jax.vmap(push)(directions))
        return v, traces if estimated else traces.sum(0, keepdims=True)

    traces = jnp.zeros((len(directions) if estimated else 1, len(x)))
    z, traces = integrate(slope, (x, traces), path, 1.0, 0.0)
    return summed(Normal(0.0, 1.0).log_prob(z)[None]) + traces, z
