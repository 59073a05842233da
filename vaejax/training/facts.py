"""Facts about a run, read from the files of its workdir, without model or data."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax.errors import InputError
from vaejax.metrics.quantities import Quantities, meaning_of, quantities_of, rank
from vaejax.runtime.jsonlines import (
    is_json_number,
    message_of,
    read_object,
    read_rows,
    whole_number,
)
from vaejax.sharing.manifest import refuse_shared
from vaejax.training.config import (
    experiment_of,
    likelihood_of,
    with_defaults,
)
from vaejax.training.metric_writer import selections_of, since_best, warm_up_steps
from vaejax.training.workdir import DIVERGENCE, read_config

Row = Mapping[str, Any]
HOW = ("split", "samples", "batch_size", "step", "examples")  # of an evaluation


class Value(NamedTuple):
    """One number of an evaluation (or a digest), and its standard error if known."""

    name: str
    value: float | str
    error: float | None
    meaning: str = ""


class Evaluation(NamedTuple):
    """The numbers of one state on one split; `samples` are importance samples.

    `final` tells an evaluation by `scripts/evaluate.py` from the last in training.
    """

    split: str
    step: int
    examples: int | None
    samples: int
    final: bool
    values: tuple[Value, ...]


class Timing(NamedTuple):
    """Seconds on the clock from each start to its last step, and speeds, examples/s.

    The first interval of a start compiles. `seconds` is None where the starts are
    not recorded.
    """

    seconds: float | None
    starts: int
    speed: float
    first: float


class Facts(NamedTuple):
    """All that the files of a workdir say."""

    workdir: Path
    preset: str
    arguments: Mapping[str, Any]
    """The settings by name, also those that are younger than the run."""
    data: Mapping[str, Any]
    rows: Sequence[Row]
    """Rows of `metrics.jsonl`."""
    environments: Sequence[Row]
    """Versions and devices from a step on."""
    evaluation: Evaluation | None
    timing: Timing | None
    likelihood: str
    """By name, `auto` resolved; empty where settings choose none."""
    quantities: Quantities
    """Meaning of its numbers."""
    diverged: str
    """The divergence of a replica of a study; else empty."""

    @property
    def parameters(self) -> int | None:
        """Numbers that players move; None where the run is older than this note."""
        noted = [row["parameters"] for row in self.environments if "parameters" in row]
        return noted[-1] if noted else None

    @property
    def patience(self) -> int:
        return self.arguments.get("patience", 0)

    @property
    def last(self) -> int:
        """The last step that is reported."""
        return self.rows[-1]["step"] if self.rows else 0

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epoch_steps * self.arguments["epochs"]

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return self.data["sizes"]["train"] // self.arguments["batch_size"]

    @property
    def status(self) -> str:
        """The end of training, or that it has not ended."""
        if self.diverged:
            return f"diverged: {self.diverged}"
        if self.last >= self.steps:
            return f"finished: {self.steps:,} steps, {self.arguments['epochs']} epochs"
        far = f"at step {self.last:,} of {self.steps:,}"
        start = warm_up_steps(self.arguments, self.epoch_steps)
        past = since_best(selections_of(held_out_rows(self.rows)), start)
        if self.patience and past >= self.patience:
            return f"stopped early {far}: no better evaluation in the last {past}"
        return f"not finished: {far}"


def gather_facts(workdir: Path) -> Facts:
    """The facts of a run.

    Raises:
      InputError: the path holds no run, one without metrics, or damaged files.
    """
    refuse_shared(workdir, "its README.md and card.json have what is known of it")
    config = read_config(workdir)
    rows = read_rows(workdir / "metrics.jsonl")
    diverged = message_of(workdir / DIVERGENCE)
    if not rows and not diverged:
        raise InputError(f"{workdir} has no metrics yet: train it to its first report")
    arguments = with_defaults(config)
    environments = read_rows(workdir / "environment.jsonl")
    quantities = quantities_of(experiment_of(config))
    trained = trained_evaluation(rows, arguments.get("patience", 0), quantities)
    evaluation = final_evaluation(workdir, quantities)
    if evaluation is None or is_outdated(evaluation, trained, environments, rows):
        evaluation = trained
    return Facts(
        workdir=workdir,
        preset=config["preset"],
        arguments=arguments,
        data=config["data"],
        rows=rows,
        environments=environments,
        evaluation=evaluation,
        timing=timing_of(read_rows(workdir / "timing.jsonl"), environments),
        likelihood=likelihood_of(config),
        quantities=quantities,
        diverged=diverged,
    )


def final_evaluation(workdir: Path, quantities: Quantities) -> Evaluation | None:
    """The content of `evaluation.json`, if it exists; InputError if it is damaged."""
    path = workdir / "evaluation.json"
    found = read_object(path)
    if found and not is_evaluation(found):
        raise InputError(f"{path} is damaged: remove it, and evaluate again")
    return evaluation_of(found, True, quantities) if found else None


def is_outdated(
    final: Evaluation,
    trained: Evaluation | None,
    environments: Sequence[Row],
    rows: Sequence[Row],
) -> bool:
    """Whether the run has gone on since an evaluation, from its step or a later one,
    and came to another state than the one that was evaluated.
    """
    last = rows[-1]["step"] if rows else 0
    went_on = any(final.step <= row["step"] < last for row in environments)
    return went_on and trained is not None and trained.step != final.step


def is_evaluation(found: Mapping[str, Any]) -> bool:
    """Whether it is of a step and a split; values are numbers, or words (digests)."""
    if not whole_number(found.get("step")) or not isinstance(found.get("split"), str):
        return False
    counts = all(whole_number(found.get(n, 0)) for n in HOW if n != "split")
    numbers = all(is_json_number(v) for n, v in found.items() if n.endswith("_se"))
    words = all(is_json_number(v) or isinstance(v, str) for v in found.values())
    return counts and numbers and words


def trained_evaluation(
    rows: Sequence[Row], patience: int, quantities: Quantities
) -> Evaluation | None:
    """The evaluation, during training, of the state that `vaejax.load` gives."""
    found = held_out_rows(rows)
    if not found:
        return None
    best = min(found, key=lambda row: row["selection"]) if patience else found[-1]
    return evaluation_of(best, False, quantities)


def held_out_rows(rows: Sequence[Row]) -> list[Row]:
    """The evaluations during training."""
    return [row for row in rows if "selection" in row]


def evaluation_of(row: Row, final: bool, quantities: Quantities) -> Evaluation:
    """The numbers of a row, each with its error."""
    noted = (*HOW, "selection")
    names = [n for n in row if n not in noted and not n.endswith("_se")]
    ordered = sorted(names, key=lambda name: rank(quantities, name))
    # An error of 0 is of equal examples: there is no telling how others would be.
    values = tuple(
        Value(n, row[n], row.get(f"{n}_se") or None, meaning_of(quantities, n))
        for n in ordered
    )
    return Evaluation(
        split=row.get("split", "test"),
        step=row["step"],
        examples=row.get("examples"),
        samples=row.get("samples", 0),
        final=final,
        values=values,
    )


def timing_of(rows: Sequence[Row], environments: Sequence[Row]) -> Timing | None:
    """Duration of training; each start counts its own seconds."""
    if not rows:
        return None
    starts = sorted({row["step"] for row in environments})
    ends: dict[int, float] = {}
    for row in rows:
        began = max((start for start in starts if start < row["step"]), default=-1)
        ends[began] = row["seconds"]
    known = starts and -1 not in ends
    speeds = [row["examples_per_s"] for row in rows]
    return Timing(
        seconds=math.fsum(ends.values()) if known else None,
        starts=len(ends),
        speed=statistics.median(speeds[1:] or speeds),
        first=speeds[0],
    )
