"""Steps of training, compiled: many as one call."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from vaejax.configs import Parallel
from vaejax.data.feed import Feed
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.parallel import shards
from vaejax.parallel.placement import (
    FSDP,
    fed,
    make_mesh,
    replicated,
    row,
    rows,
    stack,
    state_sharding,
)
from vaejax.parallel.work import convolves, slow_guess, slow_in_scan
from vaejax.runtime.memory import available_on, bytes_of, refuse_above
from vaejax.training import step as game
from vaejax.types import Array, Batch, Key, Metrics


def compile_init(
    experiment: Experiment, mesh: Mesh
) -> Callable[[Key, Batch], TrainState]:
    """`step.begun`, compiled."""
    init = partial(game.begun, experiment)
    return jax.jit(init, out_shardings=state_layout(experiment, mesh))


def abstract_state(experiment: Experiment, mesh: Mesh | None = None) -> TrainState:
    """Shapes, dtypes and placement of the state: what a checkpoint is restored into.

    Without a mesh, the first device of each host holds all of it.
    """
    mesh = mesh or make_mesh(1, jax.process_count())
    shapes = state_shapes(experiment)
    return jax.tree.map(
        lambda a, sharding: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding),
        shapes,
        state_sharding(shapes, mesh),
    )


def check_memory(shapes: TrainState, mesh: Mesh, replicas: int = 1) -> None:
    """InputError where parameters, optimizer and gradients of so many runs at once are
    more than the memory of the mesh's devices: a lower bound, known before compiling.
    """
    alone = bytes_of(shapes) + bytes_of(shapes.params)
    local, split = mesh.local_devices, mesh.shape.get(FSDP, 1)
    copies = len(local) / (split if replicas == 1 else mesh.size)
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params))
    each = f"{replicas:,} runs of {numbers:,} parameters"
    what = f"{numbers:,} parameters" if replicas == 1 else each
    advice = "choose a smaller network" if replicas == 1 else "train fewer at once"
    room = available_on(local) * len(local)
    refuse_above(room, alone * copies * replicas, f"{what} and their optimizer", advice)


def state_shapes(experiment: Experiment) -> TrainState:
    """Shapes and dtypes of the state."""
    raw = blank(experiment.dataset.spec)
    return jax.eval_shape(partial(game.init, experiment), jax.random.key(0), raw)


def state_layout(experiment: Experiment, mesh: Mesh) -> Any:
    """Where the state's arrays live: one placement for all where it is one."""
    if FSDP in mesh.shape:
        return state_sharding(state_shapes(experiment), mesh)
    return replicated(mesh)


LIBRARIES = re.compile(r"/(jax|flax|optax|numpyro|jaxtyping|beartype)/|<@beartype")

Loop = Callable[[TrainState, Any, Any, Key], tuple[TrainState, Metrics]]


class Steps(NamedTuple):
    """Many steps as one call, as `compile_steps` makes them."""

    advance: Callable[[TrainState, Any, Any, Key], tuple[TrainState, Metrics, Array]]
    guess: float
    """Seconds of a step by its arithmetic, before any has run; infinite where a step is
    not traced ahead: under pmap, and where NaNs are looked for.
    """


def compile_steps(
    experiment: Experiment, feed: Feed, mesh: Mesh, state: TrainState, resident: Any
) -> Steps:
    """Compiles a run's steps as a call of (state, resident, xs, root).

    They return the state (the given one is donated), metrics stacked over steps, and
    whether all parameters are finite afterwards. Batches are split over the mesh: a
    gather from indices that are sharded along the batch stays data-parallel. The step
    is traced here, once, from the first `state` and the data on the devices.

    With `jax_debug_nans` the steps are checked one by one, and FloatingPointError names
    the operation and the line that made the first NaN (JAX's own check is off then: it
    misses operations that gave no NaN before).
    """
    if jax.config.jax_debug_nans:  # pyright: ignore[reportAttributeAccessIssue]
        watched = partial(one_by_one, watched_move(experiment, feed))
        return Steps(lambda *given: (*watched(*given), jnp.array(True)), math.inf)
    mode, kept = experiment.training.parallel, state_layout(experiment, mesh)
    inner = traced_move(experiment, feed, mesh)
    move = compile_parted(inner, mesh, 0, mode, kept)
    loop: Loop = partial(one_by_one, move)
    guess = math.inf
    if mode != "pmap":  # which is not traced apart, nor compiled for a number of steps
        step = move.trace(state, resident, feed.one, jax.random.key(0)).jaxpr
        guess = slow_guess(step)
        if not (slow_in_scan() and convolves(step)):
            loop = compile_scan(inner, mesh, mode, kept)

    def advance(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics, Array]:
        state, metrics = loop(state, resident, fed(xs, mesh, axis=1), root)
        return state, metrics, all_finite(state.params)

    return Steps(advance, guess)


def step_over(mesh: Mesh, mode: Parallel) -> Callable[..., Any]:
    """The step as the devices of a mesh share it."""
    if mode != "jit":
        return shards.sharded_train_step
    if FSDP in mesh.shape:
        return partial(game.train_step, gradient=partial(gathered_gradient, mesh))
    return game.train_step


def gathered_gradient(
    mesh: Mesh, loss: game.Loss
) -> Callable[[dict[str, Any]], tuple[dict[str, Any], Any]]:
    """The gradient at a player's parts, which are whole where the loss uses them.

    Left to itself, the compiler may as well part the matrix products, which sends
    activations of the whole batch [Zhao et al. 2023, FSDP].
    """

    def of_whole(params: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        whole = jax.lax.with_sharding_constraint(params, replicated(mesh))
        gradient, beside = game.whole_gradient(loss)(whole)
        kept = state_sharding(params, mesh)
        return jax.lax.with_sharding_constraint(gradient, kept), beside

    return of_whole


def one_move(step: Callable[..., Any], experiment: Experiment, feed: Feed) -> Loop:
    """One step from what the feed gives for it, not compiled."""

    def move(
        state: TrainState, resident: Any, x: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return step(experiment, root, state, feed.select(resident, x))

    return move


def traced_move(experiment: Experiment, feed: Feed, mesh: Mesh) -> Any:
    """One step in the experiment's mode; compiled by itself, it is traced once."""
    step = step_over(mesh, experiment.training.parallel)
    return jax.jit(one_move(step, experiment, feed))


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
    function: Loop,
    mesh: Mesh,
    axis: int,
    mode: Parallel = "jit",
    kept: Any = None,
    rooted: Any = None,
) -> Any:
    """`function(state, resident, xs, root)` compiled, with an axis of xs split.

    Under jit the function is of whole arrays; `kept` places the state and `rooted` the
    root, by default on all devices. Under shard_map and pmap it is of one device's part
    of xs, and gives all the same.
    """
    if mode == "jit":
        whole = replicated(mesh)
        kept, rooted = kept or whole, rooted or whole
        placed = {
            "in_shardings": (kept, whole, rows(mesh, axis), rooted),
            "out_shardings": (kept, whole),
        }
        return jax.jit(function, donate_argnums=0, **placed)
    if mode == "shard_map":
        specs = {"in_specs": (P(), P(), rows(mesh, axis).spec, P()), "out_specs": P()}
        local = jax.shard_map(function, mesh=mesh, **specs)
        return jax.jit(local, donate_argnums=0)
    return compile_pmap(function, mesh, axis)


def compile_pmap(function: Loop, mesh: Mesh, axis: int) -> Loop:
    """`compile_parted` by pmap, whose state is not stacked either."""
    if mesh.is_multi_process:
        raise InputError("--parallel pmap is of one host: use jit or shard_map")
    mapped = jax.pmap(
        function,
        shards.AXIS,
        in_axes=(None, None, axis, None),
        out_axes=None,
        devices=list(mesh.devices.flat),
        donate_argnums=0,
    )

    def apart(a: Any) -> Any:
        """With an axis of devices before the split one, as pmap wants it."""
        return a.reshape(*a.shape[:axis], mesh.size, -1, *a.shape[axis + 1 :])

    return lambda state, resident, xs, root: mapped(
        state, resident, jax.tree.map(apart, xs), root
    )


def compile_scan(
    move: Callable[..., Any],
    mesh: Mesh,
    mode: Parallel = "jit",
    kept: Any = None,
    rooted: Any = None,
) -> Loop:
    """Steps as one program; xs is stacked over them."""

    def scan(
        state: TrainState, resident: Any, xs: Any, root: Key
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, x: move(s, resident, x, root), state, xs)

    return compile_parted(scan, mesh, 1, mode, kept, rooted)


def one_by_one(
    move: Loop, state: TrainState, resident: Any, xs: Any, root: Key
) -> tuple[TrainState, Metrics]:
    """Steps as one program each, called from Python."""
    history = []
    for number in range(len(jax.tree.leaves(xs)[0])):
        state, metrics = move(state, resident, row(xs, number), root)
        history.append(metrics)
    return state, stack(history)


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether every number of a pytree is finite."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))
