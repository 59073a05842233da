"""Many runs as one program: the replicas of a study, split over the devices."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from vaejax.data.feed import Feed
from vaejax.experiment import Experiment, TrainState
from vaejax.parallel.placement import row, rows, stack
from vaejax.parallel.steps import (
    all_finite,
    compile_scan,
    one_by_one,
)
from vaejax.parallel.work import convolves, slow_in_scan
from vaejax.training import step as game
from vaejax.types import Array, Batch, Key, Metrics

Build = Callable[[Mapping[str, Any]], Experiment]
"""The experiment with some of its settings given as arrays."""


class Own(NamedTuple):
    """Key and settings of each replica of a study, stacked."""

    root: Key
    settings: Mapping[str, Any]


def compile_study(
    build: Build, feed: Feed, mesh: Mesh
) -> Callable[[TrainState, Any, Any, Own], tuple[TrainState, Metrics, Array]]:
    """Many steps of many replicas as one call of (states, resident, xs, own).

    States and `own` are stacked over replicas, `xs` is `[steps, replicas, batch]`; the
    metrics that return are `[steps, replicas]`, and finiteness is `[replicas]`. The
    replicas are split over the mesh and do not talk to each other.
    """

    def move(
        state: TrainState, resident: Any, x: Any, own: Own
    ) -> tuple[TrainState, Metrics]:
        batch = feed.select(resident, x)
        return game.train_step(build(own.settings), own.root, state, batch)

    single = jax.jit(move, donate_argnums=0)  # compiled alone, it is traced once
    side_by_side = jax.vmap(single, in_axes=(0, None, 0, 0))
    loop: Callable[..., tuple[TrainState, Metrics]] | None = None

    def many(
        states: TrainState, resident: Any, xs: Any, own: Own
    ) -> tuple[TrainState, Metrics, Array]:
        nonlocal loop
        if loop is None:
            first = row(states, 0), resident, row(row(xs, 0), 0), row(own, 0)
            slow = slow_in_scan() and convolves(single.trace(*first).jaxpr)
            loop = partial(one_after_another, single) if slow else None
            loop = loop or compile_scan(
                side_by_side, mesh, kept=rows(mesh), rooted=rows(mesh)
            )
        states, metrics = loop(states, resident, xs, own)
        return states, metrics, jax.vmap(all_finite)(states.params)

    return many


def one_after_another(
    move: Any, states: TrainState, resident: Any, xs: Any, own: Own
) -> tuple[TrainState, Metrics]:
    """A study's steps, replica by replica, by one program for a step.

    Convolutions with kernels of many replicas are one grouped convolution, which XLA's
    CPU backend does slowly.
    """
    ends = []
    for number in range(len(states.step)):
        mine = jax.tree.map(lambda a, n=number: a[:, n], xs)
        ends.append(
            one_by_one(move, row(states, number), resident, mine, row(own, number))
        )
    states = stack([state for state, _ in ends])
    return states, stack([metrics for _, metrics in ends], axis=1)


def compile_study_init(build: Build, mesh: Mesh) -> Callable[[Own, Batch], TrainState]:
    """`step.begun` of every replica: of (own, raw), where `own.root` are the seeds'."""

    def init(own: Own, raw: Batch) -> TrainState:
        return game.begun(build(own.settings), own.root, raw)

    return jax.jit(jax.vmap(init, in_axes=(0, None)), out_shardings=rows(mesh))


def can_trace(build: Build, name: str, value: float, raw: Batch) -> bool:
    """Whether a setting may be an array: no decision of Python's depends on it."""

    def both(value: Array, key: Key) -> Any:
        experiment = build({name: value})
        state = game.init(experiment, key, raw)
        return game.train_step(experiment, key, state, raw)

    try:
        jax.eval_shape(both, jnp.asarray(value), jax.random.key(0))
    except TypeError:  # of which JAX's errors of concretization are a kind
        return False
    return True
