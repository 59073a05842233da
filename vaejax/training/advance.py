"""Advances a run: its steps, and the batches that feed them."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.data.feed import Feed
from vaejax.experiment import TrainState
from vaejax.purposes import OfRun
from vaejax.training.hooks import divergence
from vaejax.training.profiling import Trace
from vaejax.training.run import Interval, Run
from vaejax.types import Key


def training_key(seed: int) -> Key:
    """The root of all noise in training."""
    return jax.random.fold_in(jax.random.key(seed), OfRun.TRAINING)


class Stepper:
    """One run on its own: the steps of a range, as few compiled calls as can be.

    `waited` is the time in seconds, so far, for which no step ran for want of a batch.
    """

    def __init__(
        self,
        run: Run,
        state: TrainState,
        feed: Feed,
        mesh: Mesh,
        trace: Trace,
    ) -> None:
        self.state, self.waited = state, 0.0
        self._run, self._feed = run, feed
        self._root = training_key(run.experiment.training.seed)
        self._trace = trace
        self._resident = parallel.place(feed.resident, mesh)
        self._steps = parallel.compile_steps(run.experiment, feed, mesh)

    @property
    def training(self) -> bool:
        """Whether steps are left to take."""
        return not self._run.ended

    def stopped(self, step: int, signum: int) -> str:
        """The message when a signal stopped the run."""
        return self._run.recorder.stopped(step, signum)

    def advance(self, start: int, stop: int) -> Iterator[tuple[Run, Interval]]:
        """Takes the steps `start` + 1 to `stop`: the run, and what they came to."""
        began, waited = time.perf_counter(), self.waited
        history, running, finite = [], {}, True
        with self._first_nan_named(start, stop):
            for first, last in self._pieces(start, stop):
                self._trace.before(first, running)
                xs = self._take(first, last, running)
                self.state, metrics, finite = self._steps(
                    self.state, self._resident, xs, self._root
                )
                # One call runs while the next one's batches are taken, and no more.
                history.append(jax.device_get(running))
                running = metrics
                self._trace.after(last, self.state)
            history.append(jax.device_get(running))
            jax.block_until_ready(self.state)
        terms = {n: np.concatenate([each[n] for each in history[1:]]) for n in running}
        seconds = time.perf_counter() - began
        size = self._run.experiment.training.batch_size
        yield (
            self._run,
            Interval(
                start,
                stop,
                self.state,
                terms,
                bool(finite),
                (stop - start) * size / seconds,
                (self.waited - waited) / seconds,
            ),
        )

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The calls that the steps are taken in."""
        for first, last in self._trace.pieces(start, stop):
            size = min(self._feed.most, last - first)
            for each in range(first, last, size):
                yield each, min(last, each + size)

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

    @contextlib.contextmanager
    def _first_nan_named(self, start: int, stop: int) -> Iterator[None]:
        """Turns the error of a watched step into Diverged."""
        try:
            yield
        except FloatingPointError as error:
            found = " ".join(str(error).split())
            raise divergence(found, self._run, start, stop) from error
