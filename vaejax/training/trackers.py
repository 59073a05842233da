"""Trackers: services that follow a run, beside the files of its workdir.

A tracker gets the rows of the log as they are written. What a process that is killed
had not handed on yet is sent by the next start, and what a tracker has already is not
sent again: after a kill it holds each row once. Whatever goes wrong in a tracker is a
warning, and the run goes on without it.
"""

import importlib.util
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vaejax.data.quiet import one_line
from vaejax.data.stored import read_record
from vaejax.errors import InputError, nearest
from vaejax.runtime.jsonlines import Row, read_object, read_rows
from vaejax.runtime.storage import is_remote
from vaejax.training.config import settings_and_facts
from vaejax.training.metric_writer import Writer
from vaejax.training.tracker_services import TensorBoard, Trackio, Wandb
from vaejax.training.workdir import read_config, write_json

log = logging.getLogger(__name__)
NAME, CARD = "trackers.json", "card.json"


class TrackedRun(NamedTuple):
    """A run as a tracker is told of it, when its training starts or goes on."""

    name: str
    """That of the workdir."""
    group: str
    """The study that it is of; empty where it is none's."""
    folder: Path | None
    step: int
    """The step after which training goes on."""
    config: Mapping[str, Any]
    """Settings, data, versions, devices and parameters: JSON values."""
    rows: Sequence[Row]
    """The log up to this step, each row with its `step` and `split`."""
    id: str
    """Letters and digits, the same in every start of this run."""
    project: str
    """WANDB_PROJECT as it was when the run began, or `vaejax`."""


class Tracker(Writer, Protocol):
    """Follows one run: `begin`, then rows, then `summarize` and `close`.

    Each call may raise: the run then goes on without this tracker.
    """

    def begin(self, run: TrackedRun) -> str | None:
        """Begins, or goes on; a line that says where the run can be seen."""
        ...

    def summarize(self, numbers: Mapping[str, float | str]) -> None:
        """The numbers of the run as they stand: those of its card."""
        ...


TRACKERS: Mapping[str, tuple[Callable[[], Tracker], str]] = {
    "tensorboard": (TensorBoard, "tensorboardX"),
    "wandb": (Wandb, "wandb"),
    "trackio": (Trackio, "trackio"),
}
"""By name: the tracker, and the package that it needs. Names are those of extras."""

Named = str | Tracker
DEFAULT = ("auto",)


def no_tensorboard(folder: Path) -> str:
    """The reason why TensorBoard gets nothing, and the remedy; empty if it does."""
    if is_remote(folder):
        return "no TensorBoard files: they need a local --workdir"
    if importlib.util.find_spec("tensorboardX") is None:
        return "no TensorBoard files: for them, pip install 'vaejax[tensorboard]'"
    return ""


def chosen_trackers(named: Sequence[Named], folder: Path | None) -> dict[str, Tracker]:
    """The trackers, each by a name to speak of it by.

    Raises:
      InputError: a name is unknown, twice or with `none`, or its package is missing.
    """
    if isinstance(named, str):
        raise InputError(f"trackers are a sequence: give ({named!r},)")
    names = [each for each in named if isinstance(each, str)]
    if "none" in names and len(named) > 1:
        raise InputError("--track none goes with no other: leave it out")
    if len(set(names)) < len(names):
        raise InputError(f"--track {' '.join(names)}: name each tracker once")
    found: dict[str, Tracker] = {}
    for each in named:
        if not isinstance(each, str):
            found[f"{type(each).__name__} {len(found) + 1}"] = each
        elif each == "auto":
            if folder is not None and not no_tensorboard(folder):
                found["tensorboard"] = TensorBoard()
        elif each != "none":
            found[each] = tracker_named(each, folder)
    return found


def tracker_named(name: str, folder: Path | None) -> Tracker:
    """A tracker by its name; InputError where it cannot be had."""
    if name not in TRACKERS:
        known = nearest(name, [*TRACKERS, "auto", "none"])
        raise InputError(f"--track {name} is unknown: {known}")
    make, package = TRACKERS[name]
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"--track {name} needs {package}: pip install 'vaejax[{name}]'"
        )
    if name == "tensorboard" and (folder is None or is_remote(folder)):
        raise InputError("--track tensorboard writes files: give a local workdir")
    return make()


class Identity(NamedTuple):
    """`trackers.json`: under which name trackers know a run."""

    id: str
    project: str
    trackers: tuple[str, ...]
    """Those that are told of its evaluations."""


def read_identity(folder: Path) -> Identity | None:
    """The identity of a run; None where nothing ever tracked it."""
    path = folder / NAME
    found = read_object(path)
    if not found:
        return None
    try:
        known: Identity = read_record(Identity, found, NAME)
        if not known.id or not {*known.trackers} <= TRACKERS.keys():
            raise InputError("it names no run, or a tracker that is unknown")
    except InputError as error:
        raise InputError(
            f"{path} is damaged: {error}; remove it, and trackers see a new run"
        ) from None
    return known


def keep_identity(folder: Path | None, names: Sequence[str]) -> Identity:
    """The identity of a run, kept in its workdir with the names that are new to it.

    TensorBoard needs none: its files lie in the workdir.
    """
    project = os.environ.get("WANDB_PROJECT") or "vaejax"
    known = read_identity(folder) if folder is not None else None
    known = known or Identity(secrets.token_hex(6), project, ())
    served = [name for name in names if name in TRACKERS and name != "tensorboard"]
    wanted = known._replace(trackers=tuple(dict.fromkeys([*known.trackers, *served])))
    if folder is not None and {*names} - {"tensorboard"}:
        write_json(folder / NAME, wanted._asdict())
    return wanted


def tracking_of(
    named: Sequence[Named], folder: Path | None, group: str = ""
) -> "Tracking":
    """The trackers of a run that names or objects choose, as `chosen_trackers`."""
    lacking = no_tensorboard(folder) if "auto" in named and folder else ""
    return Tracking(chosen_trackers(named, folder), group, lacking)


class Tracking:
    """The trackers of one run; one that fails is left out from then on.

    `group` is the study that the run is of.
    """

    def __init__(
        self, trackers: Mapping[str, Tracker], group: str = "", lacking: str = ""
    ) -> None:
        self._waiting, self._group = dict(trackers), group
        self.lacking = lacking
        """The reason why the default is not at work; empty where it is."""
        self._trackers: dict[str, Tracker] = {}

    @property
    def wanted(self) -> bool:
        """Whether there are trackers to begin."""
        return bool(self._waiting)

    def begin(
        self,
        folder: Path | None,
        step: int,
        config: Mapping[str, Any],
        rows: Sequence[Row],
    ) -> list[str]:
        """Begins, where steps follow; the lines that trackers want to be said."""
        self._trackers, self._waiting = self._waiting, {}
        known = keep_identity(folder, [*self._trackers])
        run = TrackedRun(
            name=known.id if folder is None else folder.name,
            group=self._group,
            folder=folder,
            step=step,
            config=config,
            rows=rows,
            id=known.id,
            project=known.project,
        )
        said = self._each(lambda tracker: tracker.begin(run))
        return [line for line in said if line]

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
        """A row of the log."""
        self._each(lambda tracker: tracker.write(step, split, metrics))

    def sync(self) -> None:
        """A checkpoint is about to be written."""
        self._each(lambda tracker: tracker.sync())

    def close(self, folder: Path | None) -> None:
        """The training is over, or was stopped: the numbers of its card are the last
        that trackers get.
        """
        if self._trackers and folder is not None:
            card = read_object(folder / CARD)
            numbers = card_numbers(card) if card else {}
            self._each(lambda tracker: tracker.summarize(numbers))
        self._each(lambda tracker: tracker.close())

    def _each(self, call: Callable[[Tracker], Any]) -> list[Any]:
        """What the call gives for each tracker that does not fail in it."""
        found = []
        for name, tracker in [*self._trackers.items()]:
            try:
                found.append(call(tracker))
            except Exception as error:  # of a network, a disk or another's code
                del self._trackers[name]
                reason = one_line(error)[:200]
                log.warning("%s tracks no longer, the run goes on: %s", name, reason)
        return found


def track_evaluation(folder: Path) -> None:
    """Tells the trackers of a run, which go by their names, what its card holds."""
    try:
        known = read_identity(folder)
        if known is None or not known.trackers:
            return
        tracking = tracking_of(known.trackers, folder)
        rows = read_rows(folder / "metrics.jsonl")
        environments = read_rows(folder / "environment.jsonl")
        about = settings_and_facts(read_config(folder), dict(*environments[-1:]))
    except (InputError, OSError) as error:
        log.warning("the evaluation is not tracked: %s", one_line(error))
        return
    tracking.begin(folder, rows[-1]["step"] if rows else 0, about, rows)
    tracking.close(folder)


def card_numbers(card: Mapping[str, Any]) -> dict[str, float | str]:
    """The numbers of a run's card, flat: `evaluation/nll`, `evaluation/nll_se`, ..."""
    training = {n: v for n, v in card["training"].items() if v is not None}
    found = {**training, "parameters": card["parameters"]}
    evaluation = card["evaluation"] or {"values": {}}
    for name, each in evaluation["values"].items():
        found[f"evaluation/{name}"] = each["value"]
        if "standard_error" in each:
            found[f"evaluation/{name}_se"] = each["standard_error"]
    known = {n: v for n, v in evaluation.items() if n != "values" and v is not None}
    found |= {f"evaluation/{name}": value for name, value in known.items()}
    return {name: value for name, value in found.items() if value is not None}
