"""Folding an experiment's metrics over a whole split."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.apply.inputs import classes_in_turn
from vaejax.data.feed import Sequential, permutation
from vaejax.data.streaming import feed_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import conditions_of
from vaejax.purposes import OfRun, OfStep
from vaejax.runtime.limits import check_count


class SplitNumbers(NamedTuple):
    """Results of an evaluation."""

    values: dict[str, float]
    """Metrics over the split."""
    each: dict[str, np.ndarray]
    """Numbers of its examples in their order, `[N]`, where they were asked for: see
    `parallel.BatchNumbers`."""


class Evaluator:
    """An experiment's metrics over one split, compiled once for all its states.

    With `build`, the replicas of a study share the program: their settings are its
    arguments. With `each`, `measure` also keeps the numbers of each example.
    """

    def __init__(
        self,
        experiment: Experiment,
        split: str,
        samples: int,
        mesh: Mesh,
        batch_size: int,
        build: parallel.Build | None = None,
        each: bool = False,
    ) -> None:
        dataset = experiment.dataset
        self._order = Sequential(dataset.size(split), batch_size)
        steps = self._order.steps
        self._feed = feed_of(dataset, split, self._order, steps, mesh)
        self._experiment, self._samples, self._mesh = experiment, samples, mesh
        self._resident = parallel.place(self._feed.resident, mesh)
        build = build or (lambda settings: experiment)
        self._update = parallel.compile_metric(build, samples, self._feed, mesh, each)

    def __call__(
        self,
        state: TrainState,
        replica: Experiment | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> dict[str, float]:
        """All values, as Python numbers; every example counts once."""
        return self.measure(state, replica, settings).values

    def measure(
        self,
        state: TrainState,
        replica: Experiment | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
        seed: int | None = None,
    ) -> SplitNumbers:
        """The values over the split, and those of its examples; `seed` is that of the
        noise, by default the run's own.
        """
        experiment = replica or self._experiment
        metrics = experiment.metrics(self._samples)
        root = evaluation_key(experiment.training.seed if seed is None else seed)
        rows: list[Mapping[str, Any]] = []
        # On the mesh, as the next ones will be: elsewhere they are of another type,
        # for which the whole program would be compiled once more.
        empty = {name: metric.init() for name, metric in metrics.items()}
        accs: Any = parallel.place(empty, self._mesh)
        variables = variables_of(state)
        for number, (x, weight) in enumerate(self._batches()):
            key = jax.random.fold_in(root, number)
            seen = (self._resident, x, weight, key, dict(settings))
            accs, each = self._update(accs, variables, *seen)
            rows.append(each)
            if self._mesh.is_multi_process:
                # Sums over hosts take a thread each until all have come: several
                # batches in flight can leave none for the one that others wait for.
                accs = jax.block_until_ready(accs)
        values: dict[str, Any] = {}
        for name, metric in metrics.items():
            values |= metric.compute(accs[name])
        known = known_values({n: v.item() for n, v in jax.device_get(values).items()})
        return SplitNumbers(known, whole_columns(rows, self._order.size))

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        """The feed's content for each batch, and the weights of its examples."""
        try:
            for number in range(self._order.steps):
                x = parallel.row(self._feed.take(number, number + 1), 0)
                weight = self._order.weight(number)
                yield parallel.fed(x, self._mesh), parallel.fed(weight, self._mesh)
        finally:
            self._feed.close()


def whole_columns(
    batches: Sequence[Mapping[str, Any]], size: int
) -> dict[str, np.ndarray]:
    """Arrays of all batches joined, without what filled up the last one."""
    found = jax.device_get(batches)
    return {
        name: np.concatenate([np.asarray(each[name]) for each in found])[:size]
        for name in batches[0]
    }


def known_values(values: Mapping[str, float]) -> dict[str, float]:
    """The values without standard errors that one example cannot have."""
    return {
        name: value
        for name, value in values.items()
        if not (name.endswith("_se") and math.isnan(value))
    }


def evaluation_key(seed: int) -> jax.Array:
    """The root of all noise in evaluations: the same at every evaluation of a run."""
    return jax.random.fold_in(jax.random.key(seed), OfRun.EVALUATION)


def evaluate(
    experiment: Experiment,
    state: TrainState,
    *,
    split: str = "test",
    samples: int = 5000,
    batch_size: int = 100,
    devices: int | None = 1,
) -> dict[str, float]:
    """All metrics of the experiment over a split, in nats per example and bits/dim.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      split: train, validation or test.
      samples: importance samples of the log-likelihood, exactly so many for each
        example; 0 leaves it out.
      batch_size: examples at a time, at most all; a part of the noise's definition.
      devices: devices to use of each host.

    Returns:
      Values by name, as Python numbers: of most models `elbo`, `distortion`, `kl` and
      `nll` in nats per example, each with its standard error (`nll_se`), `bits_per_dim`
      and `active_units`.

    Raises:
      InputError: no such split, or a number out of range.
    """
    return measure_split(experiment, state, split, samples, batch_size, devices).values


def measure_split(
    experiment: Experiment,
    state: TrainState,
    split: str,
    samples: int,
    batch_size: int = 100,
    devices: int | None = 1,
    seed: int | None = None,
) -> SplitNumbers:
    """What `evaluate` gives, and the numbers of each example beside it.

    `seed` is that of the noise, by default the run's own.

    Raises:
      InputError: no such split, or a number out of range.
    """
    check_count("samples", samples, 0)
    check_count("batch_size", batch_size, 1)
    if split == "train" and (unknown := experiment.dataset.spec.unlabelled):
        raise InputError(
            f"{unknown:,} examples of --split train have no label: evaluate on test"
        )
    # No larger than the split: padding would take memory for nothing.
    most = experiment.dataset.size(split)
    if batch_size > most:
        each = len(jax.local_devices()) if devices is None else max(1, devices)
        batch_size = most + -most % (each * jax.process_count())
    mesh = parallel.make_mesh(devices, batch_size)
    state = parallel.place(state, mesh)
    evaluator = Evaluator(experiment, split, samples, mesh, batch_size, each=True)
    return evaluator.measure(state, seed=seed)


def held_out_examples(
    experiment: Experiment, num: int, split: str = "test"
) -> dict[str, np.ndarray]:
    """At most `num` examples of the test split, or another, as the model sees them.

    They are the first of a fixed permutation, because splits may be ordered by class;
    the noise of preprocessing is drawn with the key of the evaluations' first batch.
    """
    dataset = experiment.dataset
    index = permutation(dataset.size(split), seed=0, epoch=0)[:num]
    root = evaluation_key(experiment.training.seed)
    key = jax.random.fold_in(jax.random.fold_in(root, 0), OfStep.DATA)
    arrays = dataset.some(split, index)
    raw = {name: jnp.asarray(array) for name, array in arrays.items()}
    batch = experiment.preprocess.apply(raw | {"index": jnp.asarray(index)}, key)
    return {name: np.asarray(array) for name, array in batch.items()}


def conditions_to_generate(experiment: Experiment, num: int) -> dict[str, np.ndarray]:
    """Conditions of `num` generated examples where nobody gives any: labels in
    turn, and where a context is needed those of test examples, in turn.
    """
    shape = (num, *experiment.dataset.spec.shape)
    found = dict(experiment.preprocess.derive(classes_in_turn(experiment, num), shape))
    names = conditions_of(experiment.model)
    if any(name not in found for name in names):
        batch = held_out_examples(experiment, num)
        there = {n: jnp.asarray(batch[n]) for n in ("x", "mask") if n in batch}
        derived = experiment.preprocess.derive(there, batch["x"].shape)
        turn = np.arange(num) % len(batch["x"])
        found = {n: derived[n][turn] for n in names if n in derived} | found
    return {name: np.asarray(found[name]) for name in names if name in found}
