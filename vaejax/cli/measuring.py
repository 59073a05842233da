"""The numbers of an evaluation: over a split, and of samples that others judge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.cli.judging import Compare
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime import multihost
from vaejax.samplers.record import AS_MODELLED, Drawing
from vaejax.stages.decoding import decoded
from vaejax.training.evaluator import SplitNumbers, measure_split


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
    samples: int,
    split: str = "test",
    batch_size: int = 100,
    classifier: Path | None = None,
    num: int = 10_000,
    devices: int = 1,
    comparisons: Sequence[Compare] = (),
    drawing: Drawing = AS_MODELLED,
) -> Measured:
    """The metrics over a split, and what a classifier and others say of samples."""
    settings = {"split": split, "samples": samples, "batch_size": batch_size}
    given = {"devices": devices, "classifier": str(classifier), "num": num}
    multihost.same(settings | given, setting_differences)
    whole = measure_split(experiment, state, split, samples, batch_size, devices)
    seen = {}
    # Samples of a second stage are judged as what the first one makes of them.
    shown = experiment, state
    if classifier is not None or comparisons:
        shown = decoded(experiment, state)
    if classifier is not None:
        from vaejax.metrics.classifier import judged  # loads SciPy

        seen = judged(*shown, classifier, num, drawing=drawing)
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
