"""A trace of a few steps, for XProf (`pip install xprof; xprof FOLDER`)."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from vaejax.errors import InputError
from vaejax.experiment import TrainState
from vaejax.runtime import multihost
from vaejax.types import Array, Metrics

Advance = Callable[[TrainState, int, int], tuple[TrainState, Metrics, Array]]
"""The state after the steps `start` + 1 to `stop`, their terms, and finiteness."""


class Profile(NamedTuple):
    """Steps `start` + 1 to `stop`, traced on the first host into `folder`."""

    start: int
    stop: int
    folder: Path

    @classmethod
    def parse(cls, text: str, folder: Path) -> Self:
        """From `START:STOP`; InputError where it is something else."""
        found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
        if not found or int(found[1]) >= int(found[2]):
            raise InputError(
                f"--profile {text}: give two steps, the lesser first, as 100:105"
            )
        return cls(int(found[1]), int(found[2]), folder)

    def check(self, step: int, total: int) -> None:
        """InputError where the steps are not among those from `step` to `total`."""
        if not step <= self.start < total:
            raise InputError(
                f"--profile {self.start}:{self.stop}: this run takes steps {step} to "
                f"{total}"
            )

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The interval, cut where the trace begins and ends."""
        cuts = [at for at in (self.start, self.stop) if start < at < stop]
        yield from zip([start, *cuts], [*cuts, stop], strict=True)

    def traced(self, advance: Advance, trace: contextlib.ExitStack) -> Advance:
        """`advance`, which opens and closes the trace on its way.

        The stack closes it, too, where the run ends before.
        """

        def watched(
            state: TrainState, start: int, stop: int
        ) -> tuple[TrainState, Metrics, Array]:
            history, finite = [], jnp.array(True)
            for first, last in self.pieces(start, stop):
                if first == self.start and multihost.first():
                    trace.enter_context(jax.profiler.trace(str(self.folder)))
                state, metrics, finite = advance(state, first, last)
                history.append(metrics)
                if last == self.stop:
                    trace.close()
            return state, jax.tree.map(lambda *t: jnp.concatenate(t), *history), finite

        return watched
