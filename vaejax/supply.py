"""What training advances by: steps, and the batches for them."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import Batches, Order, resident_feed, stream_feed
from vaejax.experiment import Experiment, TrainState
from vaejax.profiling import Advance
from vaejax.streaming import Stream, own_part
from vaejax.types import Array, Key, Metrics


class Supply(NamedTuple):
    """`advance(state, start, stop)` takes steps; `waited()` is for data, in seconds."""

    advance: Advance
    waited: Callable[[], float] | None


def supply(
    experiment: Experiment,
    mesh: Mesh,
    root: Key,
    start: int,
    workers: int,
    ends: contextlib.ExitStack,
) -> Supply:
    """The steps of an experiment from `start` on; `ends` closes what they need."""
    if not experiment.dataset.spec.streams:
        return Supply(resident(experiment, mesh, root), None)
    settings = experiment.training
    examples = experiment.dataset.examples("train")
    order = Order(len(examples), settings.batch_size, settings.seed)
    batches = Batches(examples, order, own_part(mesh, settings.batch_size))
    stream = Stream(batches, start, experiment.steps, mesh, workers)
    ends.enter_context(stream)
    steps = parallel.compile_steps(experiment, stream_feed(batches), mesh)
    return Supply(one_by_one(steps, stream, root), lambda: stream.waited)


def resident(experiment: Experiment, mesh: Mesh, root: Key) -> Advance:
    """The steps of a range, of examples that are on the devices."""
    settings = experiment.training
    arrays = experiment.dataset.split("train")
    feed = resident_feed(arrays, settings.batch_size, settings.seed)
    examples = parallel.place(feed.resident, mesh)
    steps = parallel.compile_steps(experiment, feed, mesh)

    def advance(
        state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, Metrics, Array]:
        moved = steps(state, examples, feed.take(start, stop), root)
        return jax.block_until_ready(moved)

    return advance


def one_by_one(steps: Callable[..., Any], stream: Stream, root: Key) -> Advance:
    """The steps of a range, a call for each: batches are too large to stack."""

    def advance(
        state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, Any, Array]:
        history, running, finite = [], None, jax.numpy.array(True)
        for _ in range(start, stop):
            x = {name: array[None] for name, array in stream.next(running).items()}
            state, metrics, finite = steps(state, {}, x, root)
            # One step runs while the next is called for, and no more.
            history += [] if running is None else [jax.device_get(running)]
            running = metrics
        history.append(jax.device_get(running))
        joined = {n: np.concatenate([each[n] for each in history]) for n in history[0]}
        return jax.block_until_ready((state, joined, finite))

    return advance
