"""Devices: the mesh, where arrays live, and the only place that compiles."""

import functools
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vaejax import step as game
from vaejax.data.feed import Feed, weighted
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric, TrainState
from vaejax.types import Array, Batch, Key, Metrics, Variables


def make_mesh(devices: int | None, batch_size: int) -> Mesh:
    """A mesh over the first `devices` local devices (default all) on axis `data`."""
    available = jax.local_devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise InputError(f"--devices {count}: this host has 1 to {len(available)}")
    if batch_size % count:
        raise InputError(
            f"--batch-size {batch_size} does not divide over {count} devices: "
            "choose a multiple, or fewer --devices"
        )
    return jax.make_mesh(
        (count,), ("data",), axis_types=(AxisType.Auto,), devices=available[:count]
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def place(tree: Any, mesh: Mesh) -> Any:
    """Copies a pytree of arrays to every device of the mesh."""
    return jax.device_put(tree, replicated(mesh))


def compile_init(
    experiment: Experiment, mesh: Mesh
) -> Callable[[Key, Batch], TrainState]:
    """`step.init`, compiled; the state is replicated."""
    init = partial(game.init, experiment)
    return jax.jit(init, out_shardings=replicated(mesh))


def abstract_state(experiment: Experiment, mesh: Mesh | None = None) -> TrainState:
    """Shapes, dtypes and placement of the state: what a checkpoint is restored into."""
    mesh = mesh or make_mesh(1, 1)
    init = partial(game.init, experiment)
    raw = blank(experiment.dataset.spec)
    shapes = jax.eval_shape(init, jax.random.key(0), raw)
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated(mesh)),
        shapes,
    )


LIBRARIES = re.compile(r"/(jax|flax|optax|numpyro|jaxtyping|beartype)/|<@beartype")
Loop = Callable[[TrainState, Any, Any, Key], tuple[TrainState, Metrics]]


def compile_steps(
    experiment: Experiment, feed: Feed, mesh: Mesh
) -> Callable[[TrainState, Any, Any, Key], tuple[TrainState, Metrics, Array]]:
    """Many steps as one call of (state, resident, xs, root).

    Returns the state (the given one is donated), metrics stacked over steps, and
    whether all parameters are finite afterwards. Batches are split over the mesh: a
    gather from indices that are sharded along the batch stays data-parallel.

    With `jax_debug_nans` the steps are checked one by one, and FloatingPointError names
    the operation and the line that made the first NaN (JAX's own check is off then: it
    misses operations that gave no NaN before).
    """
    if jax.config.jax_debug_nans:  # pyright: ignore[reportAttributeAccessIssue]
        watched = partial(one_by_one, watched_move(experiment, feed))
        return lambda *arguments: (*watched(*arguments), jnp.array(True))
    move = compile_move(experiment, feed, mesh)
    loop: Loop | None = None

    def many(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics, Array]:
        nonlocal loop
        if loop is None:  # decided once, by the program of the first step
            slow = slow_in_scan(move, state, resident, row(xs, 0), root)
            loop = partial(one_by_one, move) if slow else compile_scan(move, mesh)
        state, metrics = loop(state, resident, xs, root)
        return state, metrics, all_finite(state.params)

    return many


def one_move(experiment: Experiment, feed: Feed) -> Loop:
    """One step from what the feed gives for it, not compiled."""

    def move(
        state: TrainState, resident: Any, x: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return game.train_step(experiment, root, state, feed.select(resident, x))

    return move


def watched_move(experiment: Experiment, feed: Feed) -> Loop:
    """One step, every operation of which is watched for NaN."""
    from jax.experimental import checkify

    plain = one_move(experiment, feed)
    checked = jax.jit(checkify.checkify(plain, errors=checkify.nan_checks))

    def move(
        state: TrainState, resident: Any, x: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        with jax.debug_nans(False):
            error, moved = checked(state, resident, x, root)
        if found := error.get_exception():
            frames = str(found.traceback_info).splitlines()
            ours = [frame for frame in frames if not LIBRARIES.search(frame)]
            raise FloatingPointError(f"{error.get()} {ours[0]}")
        return moved

    return move


def compile_move(experiment: Experiment, feed: Feed, mesh: Mesh) -> Any:
    """One step, compiled."""
    whole, split = replicated(mesh), NamedSharding(mesh, P("data"))
    placed = {"in_shardings": (whole, whole, split, whole), "out_shardings": whole}
    return jax.jit(one_move(experiment, feed), donate_argnums=0, **placed)


def compile_scan(move: Loop, mesh: Mesh) -> Loop:
    """Steps as one program."""
    whole, split = replicated(mesh), NamedSharding(mesh, P(None, "data"))

    def scan(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, x: move(s, resident, x, root), state, xs)

    placed = {"in_shardings": (whole, whole, split, whole), "out_shardings": whole}
    return jax.jit(scan, donate_argnums=0, **placed)


def one_by_one(
    move: Loop, state: TrainState, resident: Any, xs: Any, root: Key
) -> tuple[TrainState, Metrics]:
    """Steps as one program each, called from Python."""
    history = []
    for number in range(len(jax.tree.leaves(xs)[0])):
        state, metrics = move(state, resident, row(xs, number), root)
        history.append(metrics)
    return state, jax.tree.map(lambda *values: jnp.stack(values), *history)


def row(xs: Any, number: int) -> Any:
    """The slice of a stacked pytree for one step."""
    return jax.tree.map(lambda a: a[number], xs)


def slow_in_scan(move: Any, *arguments: Any) -> bool:
    """Whether steps are better called one by one.

    XLA's CPU backend compiles a convolution inside a loop to naive code, some 20 times
    slower than outside; a step with convolutions is long enough to be called by itself.
    """
    if jax.default_backend() != "cpu":
        return False
    return "conv_general_dilated" in str(move.trace(*arguments).jaxpr)


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether every number of a pytree is finite."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


def compile_metric(
    experiment: Experiment, metrics: dict[str, Metric], feed: Feed, mesh: Mesh
) -> Callable[[Any, Variables, Any, Array, Array, Key], Any]:
    """One batch folded into the accumulators of all metrics."""

    def update(
        accs: Any, variables: Variables, resident: Any, x: Any, weight: Array, key: Key
    ) -> Any:
        raw = weighted(feed.select(resident, x), weight)
        batch = experiment.preprocess.apply(raw, jax.random.fold_in(key, game.DATA))
        key = jax.random.fold_in(key, game.PLAYERS)
        return {
            name: metric.update(accs[name], experiment.model, variables, batch, key)
            for name, metric in metrics.items()
        }

    whole, split = replicated(mesh), NamedSharding(mesh, P("data"))
    return jax.jit(
        update,
        in_shardings=(whole, whole, whole, split, split, whole),
        out_shardings=whole,
    )


@functools.cache
def compile_verb(model: nn.Module, verb: str) -> Callable[..., Any]:
    """A verb of a model as a compiled function of its variables and arguments."""
    return jax.jit(partial(model.apply, method=verb))


@functools.cache
def compile_function(
    function: Callable[..., Any], model: nn.Module, **settings: Any
) -> Callable[..., Any]:
    """`function(model, ...)` compiled, with its settings fixed."""
    return jax.jit(partial(function, model, **settings))
