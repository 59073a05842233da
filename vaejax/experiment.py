"""An experiment: a model, the players that train it, the data, and how long."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import optax

from vaejax.configs import Training
from vaejax.data import Dataset
from vaejax.data.entries import checked_key
from vaejax.data.feed import Order, Shuffled
from vaejax.data.own import own_inputs
from vaejax.data.preprocess import Preprocess
from vaejax.errors import InputError
from vaejax.runtime.limits import MOST
from vaejax.types import Array, Batch, Key, Metrics, Objective, Variables

Gate = Callable[[Array, Metrics], Array]
"""`gate(step, metrics)`: whether a player moves, from the terms of all players."""


class Player(NamedTuple):
    """Who optimizes what: an objective, over the parts of the model it owns.

    `schedules` maps a hyper-parameter of the objective to its value at a step. With a
    `gate` the player moves only in steps where it is open; elsewhere its parts and
    its optimizer stay as they are. A learning rate that is an Optax schedule is read
    at the step of training, whether or not the player moved before.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    owns: tuple[str, ...]
    schedules: Mapping[str, optax.Schedule] = MappingProxyType({})
    gate: Gate | None = None


class Quantity(NamedTuple):
    """The description of a number in tables, the log, plots and reports."""

    meaning: str
    unit: str = ""
    in_line: bool = False
    """Whether the line of progress shows it."""

    @property
    def text(self) -> str:
        """The meaning, and the unit where it is not said already."""
        said = not self.unit or self.unit in self.meaning
        return self.meaning if said else f"{self.meaning}, {self.unit}"


class Each(NamedTuple):
    """The two halves of a metric's update: numbers of each example, and their fold."""

    values: Callable[[nn.Module, Variables, Batch, Key], Mapping[str, Array]]
    """Arrays `[batch]` by name, from model, variables, batch and key."""
    fold: Callable[[Any, Mapping[str, Array], Array], Any]
    """The accumulator with these values, weighted by an array `[batch]` of 0 and 1."""


class Metric(NamedTuple):
    """A fold over a split: `compute(update(... update(init(), batch_1) ..., batch_n))`.

    `update(acc, model, variables, batch, key)` weighs examples with `batch["weight"]`,
    which is 0 for padding and 1 for all others, so counts are exact. `quantities` say
    what the numbers of `compute` are; a standard error, `NAME_se`, needs no entry.
    Where numbers are means over examples, `each` makes up the update, so that an
    evaluation can keep what was averaged: of the names that `quantities` have, too.
    """

    init: Callable[[], Any]
    update: Callable[[Any, nn.Module, Variables, Batch, Key], Any]
    compute: Callable[[Any], Mapping[str, Array]]
    quantities: Mapping[str, Quantity] = MappingProxyType({})
    each: Each | None = None

    def update_each(
        self,
        acc: Any,
        model: nn.Module,
        variables: Variables,
        batch: Batch,
        key: Key,
    ) -> tuple[Any, dict[str, Array]]:
        """The updated accumulator, and the numbers of each example that it averages.

        They are arrays `[batch]` by name; none where the numbers are no such means.
        """
        if self.each is None:
            return self.update(acc, model, variables, batch, key), {}
        found = self.each.values(model, variables, batch, key)
        told = {name: v for name, v in found.items() if name in self.quantities}
        return self.each.fold(acc, found, batch["weight"]), told


class Frozen(Protocol):
    """A network that objectives read and nobody trains, by the setting that names it.

    Its weights are a file or a run of the user's: no part of the model, and of no
    checkpoint. A run records their digest.
    """

    @property
    def digest(self) -> str:
        """The recorded digest, or else that of the weights, which are opened for it."""
        ...

    def expect(self, digest: str) -> None:
        """Records the digest: other weights will be refused when they are opened."""
        ...

    def check(self) -> str:
        """Opens the weights; InputError where there are none, or others than recorded.

        Returns:
          A line about them.
        """
        ...


class TrainState(NamedTuple):
    """All that training changes: arrays only, so that a checkpoint is only arrays.

    `params` and `stats` map parts (and collections of parts) to their arrays,
    `opt_state` players to their optimizer's state; `ema` is empty where it is off.
    """

    step: Array
    params: dict[str, Any]
    stats: dict[str, Any]
    opt_state: dict[str, Any]
    ema: dict[str, Any]


def epoch_steps(dataset: Dataset, training: Training) -> int:
    """Steps of one epoch.

    InputError where there is not one whole batch, or where the steps of all epochs are
    more than an int32 counts.
    """
    size, batch = dataset.spec.sizes["train"], training.batch_size
    if batch > size:
        raise InputError(
            f"--batch-size {batch} is larger than the training split of "
            f"{dataset.spec.name}, which has {size} examples"
        )
    if size // batch * training.epochs > MOST:
        raise InputError(
            f"--epochs {training.epochs} of {size // batch:,} steps are more than "
            f"{MOST:,} steps: train fewer"
        )
    return size // batch


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run is, as one value; presets make it.

    `metrics(samples)` are the metrics of an evaluation; with `samples` > 0 also those
    that need so many importance samples. `selection(values)` is the number that is
    least for the best state, from the values on held-out data. `begin(state)` changes
    the first state by what the data says (and is not asked where only shapes matter);
    `order(size, batch_size, seed)` says which examples a step sees. `frozen` are
    networks that objectives read, by the setting that names their weights. `notes` are
    said when training starts. `likelihood` is that which settings chose, by name,
    `auto` resolved; empty where they do not choose one. `name` and `arguments` are
    stamped on by `@preset`: calling that preset with those arguments gives this
    experiment again.
    """

    model: nn.Module
    players: Mapping[str, Player]
    dataset: Dataset
    preprocess: Preprocess
    metrics: Callable[[int], Mapping[str, Metric]]
    selection: Callable[[Mapping[str, float]], float]
    training: Training
    begin: Callable[[TrainState], TrainState] = lambda state: state
    order: Callable[[int, int, int], Order] = Shuffled
    frozen: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    likelihood: str = ""
    name: str = ""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return epoch_steps(self.dataset, self.training)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epoch_steps * self.training.epochs

    def inputs(
        self, x: Any, y: Any = None, *, mask: Any = None, key: Key | None = None
    ) -> dict[str, Array]:
        """Examples in the data's own units, as queries take them for `x`.

        The inverse of `preprocess.restore`.

        Args:
          x: `[N, H, W]` or `[N, H, W, C]` of images, uint8 or on the scale of those of
            training; rows `[N, D]` of tables, or a DataFrame, whose columns of a CSV
            file are found by their names. NaN and what `numpy.ma` masks are holes.
          y: the data's own labels `[N]`, of conditional models.
          mask: like `x`, 1 where an entry is observed.
          key: of the noise of preprocessing (binarization, dequantization); None is
            `jax.random.key(0)`.

        Returns:
          `x` `[N, *shape]` in the model's units, 0 in its holes; with holes `mask`
          `[N, *shape]`; with labels `y` `[N]`, indices of classes.

        Raises:
          InputError: the examples are not like those that were trained on.
        """
        key = jax.random.key(0) if key is None else checked_key(key)
        return own_inputs(x, y, mask, self.preprocess, self.dataset.spec, key)


def variables_of(state: TrainState) -> Variables:
    """The variables of a trained model: the averaged parameters, if any."""
    return {"params": state.ema or state.params, **state.stats}
