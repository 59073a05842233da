"""Advances training: steps, and the batches that feed them."""

import time
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import Feed
from vaejax.experiment import Experiment, TrainState
from vaejax.types import Array, Key, Metrics


class Stepper:
    """The steps of a range, as few compiled calls as the feed allows.

    `waited` is the time in seconds, so far, for which no step ran for want of a batch.
    """

    def __init__(
        self, experiment: Experiment, feed: Feed, mesh: Mesh, root: Key
    ) -> None:
        self.waited = 0.0
        self._feed, self._root = feed, root
        self._resident = parallel.place(feed.resident, mesh)
        self._steps = parallel.compile_steps(experiment, feed, mesh)

    def __call__(
        self, state: TrainState, start: int, stop: int
    ) -> tuple[TrainState, Metrics, Array]:
        """The state after the steps `start` + 1 to `stop`, their terms, finiteness."""
        history, running, finite = [], {}, jax.numpy.array(True)
        for first in range(start, stop, min(self._feed.most, stop - start)):
            last = min(stop, first + self._feed.most)
            xs = self._take(first, last, running)
            state, metrics, finite = self._steps(state, self._resident, xs, self._root)
            # One call runs while the next one's batches are taken, and no more.
            history.append(jax.device_get(running))
            running = metrics
        history.append(jax.device_get(running))
        terms = {n: np.concatenate([each[n] for each in history[1:]]) for n in running}
        return jax.block_until_ready((state, terms, finite))

    def _take(self, start: int, stop: int, running: Any) -> Any:
        """The next batches; until `running` is there, it is not they that are waited
        for.
        """
        if self._feed.ready():
            return self._feed.take(start, stop)
        jax.block_until_ready(running)
        began = time.perf_counter()
        xs = self._feed.take(start, stop)
        self.waited += time.perf_counter() - began
        return xs
