"""The numbers of an evaluation: over a split, and of samples that others judge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vaejax.cli.judging import Compare, Judges
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime import multihost
from vaejax.samplers.record import AS_MODELLED, Drawing
from vaejax.stages.decoding import decoded
from vaejax.training.evaluator import SplitNumbers, measure_split


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """The examples that a run is measured on, and how precisely.

    Args:
      samples: importance samples for each example; 0 leaves the likelihood out.
      split: train, validation or test.
      batch_size: examples at a time.
      devices: devices to use of each host, over which batches are split.
    """

    samples: int = 5000
    split: str = "test"
    batch_size: int = 100
    devices: int = 1

    @property
    def part(self) -> dict[str, Any]:
        """All but the devices, on which the numbers do not depend."""
        settings = dataclasses.asdict(self)
        return {name: settings[name] for name in settings if name != "devices"}


class Measured(NamedTuple):
    """The result of an evaluation."""

    settings: dict[str, Any]
    whole: SplitNumbers
    seen: dict[str, Any]
    """Measures of samples."""

    @property
    def values(self) -> dict[str, float]:
        """The metrics over the split."""
        return self.whole.values

    @property
    def record(self) -> dict[str, Any]:
        """The content of `evaluation.json`, where all numbers are finite."""
        return self.settings | self.values | self.seen


def measured(
    experiment: Experiment,
    state: TrainState,
    evaluation: EvaluationSettings,
    judges: Judges = Judges(),
    comparisons: Sequence[Compare] = (),
    drawing: Drawing = AS_MODELLED,
) -> Measured:
    """The metrics over a split, and what a classifier and others say of samples."""
    settings, devices = evaluation.part, evaluation.devices
    judge, num = judges.classifier, judges.num
    given = {"devices": devices, "classifier": str(judge), "num": num}
    multihost.same(settings | given, setting_differences)
    whole = measure_split(experiment, state, **settings, devices=devices)
    seen = {}
    # Samples of a second stage are judged as what the first one makes of them.
    shown = experiment, state
    if judge is not None or comparisons:
        shown = decoded(experiment, state)
    if judge is not None:
        from vaejax.metrics.classifier import judged  # loads SciPy

        seen = judged(*shown, judge, num, drawing=drawing)
    for compare in comparisons:
        seen |= compare(*shown)
    if drawing.sampler is not None:
        seen["sampler"] = drawing.sampler.kind
    if drawing.temperature is not None:
        seen["temperature"] = drawing.temperature
    return Measured(settings | {"step": int(state.step)}, whole, seen)


def setting_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ, each as `name old (here new)`."""
    return [f"{n} {old[n]} (here {new[n]})" for n in new if old[n] != new[n]]
