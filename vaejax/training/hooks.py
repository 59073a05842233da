"""Hooks, called in their order for each run after each interval of steps.

To have something else done, write a function of run and interval, and put it into
`standard_hooks`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vaejax.experiment import Experiment
from vaejax.runtime import multihost
from vaejax.runtime.preemption import Interrupts
from vaejax.training.run import Diverged, Interval, Run
from vaejax.training.skipping import STUCK, skipped_steps

Hook = Callable[[Run, Interval], None]
Evaluate = Callable[[Run, Interval], dict[str, float]]
"""The metrics of the state after an interval, over the held-out split."""


def standard_hooks(evaluate: Evaluate, preemption: "Preemption") -> Sequence[Hook]:
    """The hooks of every training; nothing is written of an interval that diverged."""
    return (
        check_finite,
        log_terms,
        HeldOut(evaluate),
        end,
        preemption.ask,
        preemption.save,
    )


def check_finite(run: Run, interval: Interval) -> None:
    """Raises Diverged at the first step with a term that is not finite.

    Skipped steps may have such terms, but not all steps of an interval may be skipped.
    """
    skipped = skipped_steps(interval.history)
    if len(skipped) >= STUCK and skipped.all():
        found = "every step was skipped: raise --skip, or lower --learning-rate"
        raise divergence(found, run, interval.start, interval.stop)
    for name, values in interval.history.items():
        bad = ~np.isfinite(values) & ~skipped
        if bad.any():
            step = interval.start + int(bad.argmax()) + 1
            found = f"{name} is {values[bad.argmax()]} at step {step}"
            raise divergence(found, run, interval.start, interval.stop)
    if not interval.finite:
        found = f"a parameter is not finite after step {interval.stop}"
        raise divergence(found, run, interval.start, interval.stop)


def divergence(found: str, run: Run, start: int, stop: int) -> Diverged:
    """The error of a divergence: the term, the steps, and what to do."""
    return Diverged(f"{found} (steps {start + 1} to {stop}). {run.recorder.advice()}")


def log_terms(run: Run, interval: Interval) -> None:
    """Writes the means of the terms, and the speed."""
    if interval.cut:
        return
    run.recorder.report(
        interval.stop, interval.history, interval.speed, interval.waiting
    )


class HeldOut(NamedTuple):
    """Evaluates every `evaluate_every` epochs, and at the end."""

    evaluate: Evaluate

    def __call__(self, run: Run, interval: Interval) -> None:
        experiment = run.experiment
        every = experiment.training.evaluate_every * experiment.epoch_steps
        due = is_last(run, interval) or passes(interval.start, interval.stop, every)
        if due and not interval.cut:
            values = self.evaluate(run, interval)
            split = held_out_split(experiment)
            run.recorder.evaluated(interval.stop, split, values, interval.state)


def end(run: Run, interval: Interval) -> None:
    """Ends a run after its last step, or early, when patience is exhausted."""
    run.ended = is_last(run, interval) or run.recorder.exhausted()


def passes(start: int, stop: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (start, stop]."""
    return stop // every > start // every


def is_last(run: Run, interval: Interval) -> bool:
    """Whether no step follows."""
    return interval.stop == run.experiment.steps


class Preemption:
    """Saves every `checkpoint_every` steps, at the end, and before a signal's exit."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts, self._asked = interrupts, -1
        self.leaving = False
        """Whether a signal came: the same for all hosts, and for all runs."""

    def ask(self, run: Run, interval: Interval) -> None:
        """Asks all hosts, once an interval, after its evaluation, which may be long."""
        if interval.stop != self._asked:
            self._asked = interval.stop
            self.leaving = multihost.came(self._interrupts)

    def save(self, run: Run, interval: Interval) -> None:
        """Begins a checkpoint where one is due."""
        every = run.experiment.training.checkpoint_every
        due = passes(interval.start, interval.stop, every)
        if interval.cut:
            run.recorder.keep_part(interval.start, interval.stop, interval.history)
        if due or run.ended or self.leaving:
            run.recorder.save(interval.stop, interval.state)


def held_out_split(experiment: Experiment) -> str:
    """The split that training reports on."""
    splits = experiment.dataset.spec.sizes
    return "validation" if "validation" in splits else "test"
