"""A run under way, and what an interval of its steps came to: what hooks are given."""

import dataclasses
from typing import NamedTuple

import numpy as np

from vaejax.experiment import Experiment, TrainState
from vaejax.training.recorder import Recorder


class Diverged(RuntimeError):
    """A logged term was not finite: the message says where, and what to go back to."""


class Interval(NamedTuple):
    """The outcome of steps `start` + 1 to `stop` of one run."""

    start: int
    stop: int
    state: TrainState
    """After step `stop`."""
    history: dict[str, np.ndarray]
    """Terms `[steps]`."""
    finite: bool
    """Whether all parameters are."""
    speed: float
    """Examples/s."""
    waiting: float = 0.0
    """Share of the time for which no step ran for want of data."""
    cut: bool = False
    """Whether a signal ended it early: it is saved, and reported when it is whole."""


@dataclasses.dataclass
class Run:
    """One run: what trains, and what records it."""

    experiment: Experiment
    recorder: Recorder
    ended: bool = False
    """Whether no step is left to take: the last one was, or patience is exhausted."""

    def diverge(self, error: Diverged) -> None:
        """Handles a divergence: that of a run on its own ends the training."""
        raise error
