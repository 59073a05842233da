"""Devices: the mesh, where arrays live, and the only place that compiles."""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vaejax import shards
from vaejax import step as game
from vaejax.data.feed import Feed, weighted
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.settings import Parallel
from vaejax.types import Array, Batch, Key, Metrics, Variables

WHOLE, ROWS, STEPS = P(), P("data"), P(None, "data")


def make_mesh(devices: int | None, batch_size: int) -> Mesh:
    """A mesh over the first `devices` (default all) of each host on axis `data`."""
    available = len(jax.local_devices())
    each = available if devices is None else devices
    if not 1 <= each <= available:
        raise InputError(f"--devices {each}: this host has 1 to {available}")
    chosen = [d for host in of_hosts(jax.devices()) for d in host[:each]]
    count = len(chosen)
    if batch_size % count:
        raise InputError(
            f"--batch-size {batch_size} does not divide over {count} devices: "
            "choose a multiple, or fewer --devices"
        )
    return jax.make_mesh(
        (count,), ("data",), axis_types=(AxisType.Auto,), devices=chosen
    )


def of_hosts(devices: Sequence[Any]) -> list[list[Any]]:
    """The devices of each host."""
    found: dict[int, list[Any]] = {}
    for device in devices:
        found.setdefault(device.process_index, []).append(device)
    return list(found.values())


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def place(tree: Any, mesh: Mesh) -> Any:
    """Copies a pytree of arrays to every device of the mesh.

    They must be the same on all hosts.
    """
    return put(tree, replicated(mesh))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """A pytree of whole arrays, of which each host keeps what its devices need."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def part(array: Any) -> Array:
        # `device_put` would compare the arrays over the hosts, one by one.
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(part, tree)


def fed(xs: Any, mesh: Mesh, parts: P = ROWS) -> Any:
    """What compiled functions take, split over the mesh: on one host NumPy will do."""
    return put(xs, NamedSharding(mesh, parts)) if mesh.is_multi_process else xs


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
    mode = experiment.training.parallel
    step = game.train_step if mode == "jit" else shards.train_step
    inner = jax.jit(one_move(step, experiment, feed))  # of its own, it is traced once
    move = compile_parted(inner, mesh, P("data"), mode)
    loop: Loop | None = None

    def many(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics, Array]:
        nonlocal loop
        xs = fed(xs, mesh, STEPS)
        if loop is None:  # decided once, by the program of the first step
            first = state, resident, row(xs, 0), root
            single = mode == "pmap" or slow_in_scan(move, *first)
            loop = (
                partial(one_by_one, move) if single else compile_scan(inner, mesh, mode)
            )
        state, metrics = loop(state, resident, xs, root)
        return state, metrics, all_finite(state.params)

    return many


Build = Callable[[Mapping[str, Any]], Experiment]
"""The experiment with some of its settings given as arrays."""


class Own(NamedTuple):
    """What each replica of a study has of its own, stacked: key, and settings."""

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
            slow = slow_in_scan(single, *first)
            loop = partial(one_after_another, single) if slow else None
            loop = loop or compile_scan(side_by_side, mesh, kept=P("data"))
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
    """`step.init` of every replica: of (own, raw), where `own.root` are the seeds'."""

    def init(own: Own, raw: Batch) -> TrainState:
        return game.init(build(own.settings), own.root, raw)

    split = NamedSharding(mesh, P("data"))
    return jax.jit(jax.vmap(init, in_axes=(0, None)), out_shardings=split)


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


def device_per_core() -> None:
    """Makes every core of a machine without accelerator a device, for replicas.

    A small step fills no second core, two replicas fill two. Must come before JAX's
    first use; does nothing later, and where JAX_NUM_CPU_DEVICES says otherwise.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores)


def study_mesh(devices: int | None, replicas: int) -> Mesh:
    """A mesh over as many of the devices as the replicas divide over."""
    available = len(jax.local_devices()) if devices is None else max(1, devices)
    count = max(n for n in range(1, available + 1) if replicas % n == 0)
    return make_mesh(count, count)


def spread(trees: Sequence[Any], mesh: Mesh) -> Any:
    """Pytrees of replicas stacked, and split over the mesh."""
    return jax.device_put(stack(trees), NamedSharding(mesh, P("data")))


def stack(trees: Sequence[Any], axis: int = 0) -> Any:
    """Pytrees as one, their leaves stacked."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def one_move(step: Callable[..., Any], experiment: Experiment, feed: Feed) -> Loop:
    """One step from what the feed gives for it, not compiled."""

    def move(
        state: TrainState, resident: Any, x: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return step(experiment, root, state, feed.select(resident, x))

    return move


def watched_move(experiment: Experiment, feed: Feed) -> Loop:
    """One step, every operation of which is watched for NaN."""
    from jax.experimental import checkify

    plain = one_move(game.train_step, experiment, feed)
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


def compile_parted(
    function: Loop, mesh: Mesh, parts: P, mode: Parallel = "jit", kept: P = WHOLE
) -> Any:
    """`function(state, resident, xs, root)` compiled, with xs parted over the mesh.

    Under jit the function is of whole arrays; `kept` places state and root. Under
    shard_map and pmap it is of one device's part of xs, and gives all the same.
    """
    if mode == "jit":
        own, whole = NamedSharding(mesh, kept), replicated(mesh)
        placed = {
            "in_shardings": (own, whole, NamedSharding(mesh, parts), own),
            "out_shardings": (own, whole),
        }
        return jax.jit(function, donate_argnums=0, **placed)
    if mode == "shard_map":
        specs = {"in_specs": (WHOLE, WHOLE, parts, WHOLE), "out_specs": WHOLE}
        local = jax.shard_map(function, mesh=mesh, **specs)
        return jax.jit(local, donate_argnums=0)
    if mesh.is_multi_process:
        raise InputError("--parallel pmap is of one host: use jit or shard_map")
    axis = parts.index(shards.AXIS)
    mapped = jax.pmap(
        function,
        shards.AXIS,
        in_axes=(None, None, axis, None),
        out_axes=None,
        devices=list(mesh.devices.flat),
        donate_argnums=0,
    )

    def apart(a: Any) -> Any:
        """With an axis of devices before the parted one, as pmap wants it."""
        return a.reshape(*a.shape[:axis], mesh.size, -1, *a.shape[axis + 1 :])

    return lambda state, resident, xs, root: mapped(
        state, resident, jax.tree.map(apart, xs), root
    )


def compile_scan(
    move: Callable[..., Any], mesh: Mesh, mode: Parallel = "jit", kept: P = WHOLE
) -> Loop:
    """Steps as one program; state and root are placed by `kept`."""

    def scan(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, x: move(s, resident, x, root), state, xs)

    return compile_parted(scan, mesh, P(None, "data"), mode, kept)


def one_by_one(
    move: Loop, state: TrainState, resident: Any, xs: Any, root: Key
) -> tuple[TrainState, Metrics]:
    """Steps as one program each, called from Python."""
    history = []
    for number in range(len(jax.tree.leaves(xs)[0])):
        state, metrics = move(state, resident, row(xs, number), root)
        history.append(metrics)
    return state, stack(history)


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
    build: Build, samples: int, feed: Feed, mesh: Mesh
) -> Callable[[Any, Variables, Any, Array, Array, Key, Mapping[str, Any]], Any]:
    """One batch folded into the accumulators of all metrics."""

    def update(
        accs: Any,
        variables: Variables,
        resident: Any,
        x: Any,
        weight: Array,
        key: Key,
        settings: Mapping[str, Any],
    ) -> Any:
        experiment = build(settings)
        raw = weighted(feed.select(resident, x), weight)
        batch = experiment.preprocess.apply(raw, jax.random.fold_in(key, game.DATA))
        key = jax.random.fold_in(key, game.PLAYERS)
        return {
            name: metric.update(accs[name], experiment.model, variables, batch, key)
            for name, metric in experiment.metrics(samples).items()
        }

    whole, split = replicated(mesh), NamedSharding(mesh, P("data"))
    return jax.jit(
        update,
        in_shardings=(whole, whole, whole, split, split, whole, whole),
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
