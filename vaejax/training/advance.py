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
from vaejax.runtime import multihost
from vaejax.runtime.preemption import Interrupts
from vaejax.training.hooks import divergence
from vaejax.training.pace import Calls, Pace
from vaejax.training.profiling import Trace
from vaejax.training.run import Interval, Run
from vaejax.types import Key


def training_key(seed: int) -> Key:
    """The root of all noise in training."""
    return jax.random.fold_in(jax.random.key(seed), OfRun.TRAINING)


class Stepper:
    """One run on its own: the steps of a range, as few compiled calls as can be while
    each is short enough for a signal to wait for.

    `waited` is the time in seconds, so far, for which no step ran for want of a batch.
    """

    def __init__(
        self,
        run: Run,
        state: TrainState,
        feed: Feed,
        mesh: Mesh,
        trace: Trace,
        interrupts: Interrupts | None = None,
    ) -> None:
        self.state, self.waited = state, 0.0
        self._interrupts = interrupts or Interrupts()
        self._part = run.recorder.part(int(state.step))
        self._finite: Any = True
        self._run, self._feed = run, feed
        self._root = training_key(run.experiment.training.seed)
        self._trace = trace
        self._resident = parallel.place(feed.resident, mesh)
        self._steps = parallel.compile_steps(
            run.experiment, feed, mesh, state, self._resident
        )
        self._pace, self._compiled = Pace(self._steps.guess), set[int]()

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
        at, calls = start, Calls(self._pace, self._compiled)
        with self._first_nan_named(start, stop):
            for at in self._calls(start, stop, calls):
                if at < stop and self._told():
                    break
            terms = calls.terms()
            jax.block_until_ready(self.state)
        seconds = time.perf_counter() - began
        size = self._run.experiment.training.batch_size
        first, terms = self._whole(start, terms)
        interval = Interval(
            first,
            at,
            self.state,
            terms,
            bool(self._finite),
            (at - start) * size / seconds,
            (self.waited - waited) / seconds,
            cut=at < stop,
        )
        yield self._run, interval

    def _told(self) -> bool:
        """Whether to leave before the interval ends.

        Several hosts cut and leave at the ends of intervals only: each has a clock and
        signals of its own, and they would wait for each other for ever.
        """
        return multihost.alone() and self._interrupts.came()

    def _whole(
        self, start: int, terms: dict[str, np.ndarray]
    ) -> tuple[int, dict[str, np.ndarray]]:
        """The start and the terms of an interval that an earlier call was stopped in:
        it is reported, and its events happen, as if it had not been.
        """
        part, self._part = self._part, None
        if part is None:
            return start, terms
        joined = {n: np.concatenate([part.terms[n], terms[n]]) for n in terms}
        return part.start, joined

    def _calls(self, start: int, stop: int, calls: Calls) -> Iterator[int]:
        """Takes the steps; after each call, the last one that was begun."""
        for first, last in self._pieces(start, stop):
            self._trace.before(first, calls.running)
            xs, at = self._take(first, last, calls.running), first
            while at < last:
                count = last - at
                if multihost.alone():  # hosts must not cut at different steps
                    count = min(count, self._pace.size)
                now, xs = split_at(xs, count) if count < last - at else (xs, None)
                self._call(calls, count, now)
                at += count
                if at == last:
                    self._trace.after(last, self.state)
                yield at

    def _call(self, calls: Calls, count: int, xs: Any) -> None:
        """Begins the next steps, once those before the last ones are done."""
        began = time.perf_counter()
        self.state, metrics, self._finite = self._steps.advance(
            self.state, self._resident, xs, self._root
        )
        calls.add(count, began, metrics)

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


def split_at(xs: Any, count: int) -> tuple[Any, Any]:
    """The batches of the first `count` steps, and those of the steps after them."""
    first = jax.tree.map(lambda a: a[:count], xs)
    return first, jax.tree.map(lambda a: a[count:], xs)
