"""One move of the game: every player's gradient at the same parameters, then all move.

Nothing here knows a model by name, a device, or a file.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vaejax.errors import InputError
from vaejax.experiment import Experiment, Player, TrainState
from vaejax.nn.drawing import drawn_together
from vaejax.nn.layers import PRECISIONS, averages_at, bodies_in
from vaejax.purposes import OfObjective, OfStep
from vaejax.training.skipping import unless_skipped
from vaejax.types import Array, Batch, Key, Metrics


def init(experiment: Experiment, key: Key, raw: Batch) -> TrainState:
    """The state before the first step.

    Parameters come into being by running every player's objective once under
    `nn.init`, so a model needs no method of its own for it.
    """
    data_key, objective_key, param_key = jax.random.split(key, 3)
    batch = experiment.preprocess.apply(raw, data_key)

    def objectives(model: nn.Module, batch: Batch, key: Key) -> None:
        for player in experiment.players.values():
            player.objective(model, batch, key, **schedules_at(player, 0))

    make = drawn_together(nn.init(objectives, experiment.model))
    variables = make(param_key, batch, objective_key)
    stats: dict[str, Any] = dict(variables)
    params: dict[str, Any] = stats.pop("params", {})
    check_ownership(experiment, params)
    ema = jax.tree.map(jnp.copy, params) if experiment.training.ema else {}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt_state={
            name: player.optimizer.init(owned(player, params))
            for name, player in experiment.players.items()
        },
        ema=ema,
    )


def begun(experiment: Experiment, key: Key, raw: Batch) -> TrainState:
    """The state that training starts from: `init`, changed by what the data says."""
    return experiment.begin(init(experiment, key, raw))


def check_ownership(experiment: Experiment, params: dict[str, Any]) -> None:
    """Every part with parameters has one owner: else it moves never, or twice."""
    for part in params:
        owners = [n for n, p in experiment.players.items() if part in p.owns]
        if len(owners) != 1:
            raise InputError(f"part {part!r} must have one owner, it has {owners}")


def owned(player: Player, tree: dict[str, Any]) -> dict[str, Any]:
    """The parts of `tree` that the player owns; parts without arrays are absent."""
    return {part: tree[part] for part in player.owns if part in tree}


def schedules_at(player: Player, step: Array | int) -> dict[str, Array]:
    """The player's scheduled hyper-parameters at a step."""
    return {name: jnp.asarray(at(step)) for name, at in player.schedules.items()}


Loss = Callable[[dict[str, Any]], tuple[Array, Any]]
Gradient = Callable[[Loss], Callable[[dict[str, Any]], tuple[dict[str, Any], Any]]]
"""From a loss to the function that differentiates it, like `jax.grad`."""

whole_gradient: Gradient = partial(jax.grad, has_aux=True)
"""The gradient of a loss of the whole batch, and what it gives beside."""


def own_gradient(
    model: nn.Module,
    player: Player,
    state: TrainState,
    batch: Batch,
    key: Key,
    gradient: Gradient = whole_gradient,
) -> tuple[dict[str, Any], tuple[Metrics, dict[str, Any]]]:
    """Differentiates one player's objective in its own parts and no others.

    Returns the gradient and, beside it, the logged terms and the statistics
    (BatchNorm's, ...) that the pass left behind.
    """
    hyper = schedules_at(player, state.step)
    objective = partial(player.objective, **hyper)
    pure = nn.apply(objective, model, mutable=list(state.stats))
    rngs = {"dropout": jax.random.fold_in(key, OfObjective.DROPOUT)}

    def loss_of(own: dict[str, Any]) -> tuple[Array, tuple[Metrics, dict[str, Any]]]:
        variables = {"params": state.params | own, **state.stats}
        (loss, terms), stats = pure(variables, batch, key, rngs=rngs)
        return loss, (hyper | terms, stats)

    return gradient(loss_of)(owned(player, state.params))


def train_step(
    experiment: Experiment,
    root: Key,
    state: TrainState,
    raw: Batch,
    gradient: Gradient = whole_gradient,
) -> tuple[TrainState, Metrics]:
    """One simultaneous move. `root` is the run's key; the step is folded into it.

    `gradient` differentiates a loss, where `raw` is only a part of the batch over all.
    """
    key = jax.random.fold_in(root, state.step)
    batch = experiment.preprocess.apply(raw, jax.random.fold_in(key, OfStep.DATA))
    key = jax.random.fold_in(key, OfStep.PLAYERS)
    gradients, seen, metrics = {}, {}, {}
    rate = averaging_rate(experiment.training.ema, state) if state.ema else None
    with bodies_in(PRECISIONS[experiment.training.precision]), averages_at(rate):
        for name, player in experiment.players.items():
            gradients[name], (terms, seen[name]) = own_gradient(
                experiment.model, player, state, batch, key, gradient
            )
            metrics |= {f"{name}/{term}": value for term, value in terms.items()}
    params, opt_state, gates = dict(state.params), {}, {}
    stats = {name: dict(parts) for name, parts in state.stats.items()}
    for name, player in experiment.players.items():
        moved, opt_state[name], moves = move(
            player, name, state, gradients[name], metrics
        )
        kept = {c: owned(player, parts) for c, parts in seen[name].items()}
        if player.gate:
            gates[f"{name}/moved"] = moves
        if limit := experiment.training.skip:
            still = {c: owned(player, stats[c]) for c in kept}
            before = owned(player, state.params), state.opt_state[name], still
            after = moved, opt_state[name], kept
            (moved, opt_state[name], kept), told = unless_skipped(
                limit, gradients[name], after, before
            )
            gates |= {f"{name}/{term}": value for term, value in told.items()}
        params |= moved
        for collection, parts in kept.items():
            stats[collection] |= parts
    after = TrainState(state.step + 1, params, stats, opt_state, state.ema)
    return average(rate, after), metrics | gates


def move(
    player: Player, name: str, state: TrainState, gradient: Any, metrics: Metrics
) -> tuple[dict[str, Any], Any, Array]:
    """The player's parts and optimizer after its move, and whether it moved."""
    before = owned(player, state.params), at_step(state.opt_state[name], state.step)
    updates, opt_state = player.optimizer.update(gradient, before[1], before[0])
    after = optax.apply_updates(before[0], updates), opt_state
    moves = jnp.array(True)
    if player.gate:
        moves = player.gate(state.step, metrics)
        after = jax.tree.map(lambda a, b: jnp.where(moves, a, b), after, before)
    params: Any = after[0]
    return params, after[1], moves.astype(jnp.float32)


def at_step(opt_state: Any, step: Array) -> Any:
    """An optimizer's state whose learning rate is that of a step of training.

    Optax counts the player's own moves for it, which a gate withholds: a rate that
    falls over training would stand still with it. Adam's count of its moments stays.
    """
    schedule = optax.ScaleByScheduleState

    def set_count(part: Any) -> Any:
        return part._replace(count=step) if isinstance(part, schedule) else part

    return jax.tree.map(
        set_count, opt_state, is_leaf=lambda part: isinstance(part, schedule)
    )


def averaging_rate(decay: float, state: TrainState) -> Array:
    """Weight of the new parameters in the moving average [Polyak & Juditsky 1992].

    The decay starts low, min(decay, (1 + step) / (10 + step)), so that the first
    parameters are forgotten.
    """
    step = state.step + 1
    return 1 - jnp.minimum(decay, (1 + step) / (10 + step))


def average(rate: Array | None, state: TrainState) -> TrainState:
    """Moves the averaged parameters by `rate`, where there are any."""
    if rate is None:
        return state
    ema = jax.tree.map(lambda e, p: e + rate * (p - e), state.ema, state.params)
    return state._replace(ema=ema)
