"""How many steps one compiled call may take, so that a signal is answered soon."""

import time
from typing import Any

import jax
import numpy as np

LIMIT = 3.0  # seconds; one call may be under way, and another wait behind it
LITTLE = 16  # a call shorter than this part of the limit may be made longer
GROWTH = 8  # at most so much longer at once


class Pace:
    """The length of calls: a power of two, by the time that earlier ones took.

    Every length is a compilation. So it changes only where a call took too long, or so
    little that its start costs more than the compilation of another.
    """

    def __init__(self, guess: float) -> None:
        """Begins with a guess of a step's seconds."""
        self.size = power_below(LIMIT / guess)
        """Steps that the next call may take."""
        self.slow = guess > LIMIT / 2
        """Whether one call is so long that a second must not wait behind it."""

    def took(self, steps: int, seconds: float) -> None:
        """Notes the time of a call, without that of its compilation."""
        self.slow = seconds > LIMIT / 2
        little = steps == self.size and seconds < LIMIT / LITTLE
        if little or seconds > LIMIT:
            fits = power_below(LIMIT / 2 * steps / max(seconds, 1e-6))
            self.size = min(fits, GROWTH * steps)


def power_below(number: float) -> int:
    """The largest power of two that is not above, at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)


class Calls:
    """The calls of an interval: one runs while the next is made ready, and no more.

    `compiled` are the lengths of calls made before, in any interval.
    """

    def __init__(self, pace: Pace, compiled: set[int]) -> None:
        self.running: Any = {}
        self._pace, self._compiled = pace, compiled
        self._history: list[dict[str, np.ndarray]] = []
        self._steps, self._began = 0, 0.0

    def add(self, steps: int, began: float, metrics: Any) -> None:
        """Notes a call begun at `began`, and waits for the one before it."""
        if steps not in self._compiled:  # until it returned, it was compiled
            began = time.perf_counter()
            self._compiled.add(steps)
        done = self._settle()
        self.running, self._steps = metrics, steps
        self._began = max(began, done)
        if self._pace.slow:
            self._settle()

    def _settle(self) -> float:
        """Waits for the call under way: when it was done."""
        if not self.running:
            return 0.0
        self._history.append(jax.device_get(self.running))
        self.running, done = {}, time.perf_counter()
        self._pace.took(self._steps, done - self._began)
        return done

    def terms(self) -> dict[str, np.ndarray]:
        """The terms of all steps, once they are done."""
        self._settle()
        names = self._history[0]
        return {n: np.concatenate([each[n] for each in self._history]) for n in names}
