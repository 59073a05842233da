"""A workdir: which run lives in it, and reading it back.

`config.json` holds the preset's name and arguments and the description of the data; it
is all that is needed to build the experiment again. Nothing in a workdir is code.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime import lock
from vaejax.runtime.jsonlines import parsed, whole_number
from vaejax.runtime.storage import SCRATCH, is_remote, path_of, reached, write_whole
from vaejax.sharing.hub import fetch_model
from vaejax.sharing.manifest import (
    hub_address,
    is_of_hub,
    is_shared,
    refuse_shared,
)
from vaejax.training.config import (
    FORMAT,
    LAYOUT,
    check_config,
    config_of,
    differences,
    experiment_of,
    origin_in,
    with_defaults,
)

if TYPE_CHECKING:
    from vaejax.training.init_from import InitFrom

DIVERGENCE = "diverged.json"  # of a replica of a study that did
NOT_TRAINED = "it has no optimizer to go on with; give another --workdir"

log = logging.getLogger(__name__)


def workdir_of(name: str | os.PathLike[str]) -> Path:
    """The path of a workdir; InputError where no checkpoint could be written to it."""
    if is_of_hub(name):
        raise InputError(
            f"{hub_address(name)} is an address of the hub, where no run is kept: give "
            "a folder"
        )
    path = path_of(name)
    if str(path).startswith("s3:"):
        raise InputError(
            f"{re.sub('^s3:/+', 's3://', str(path))}: checkpoints go to a folder or to "
            "gs://, not to s3://; mount the bucket as a folder"
        )
    return path


def readable_workdir(name: str | os.PathLike[str]) -> Path:
    """The path of a run or a shared model to read; one of the hub is got first."""
    return fetch_model(name) if is_of_hub(name) else workdir_of(name)


def claim(
    workdir: Path, experiment: Experiment, init_from: "InitFrom | None" = None
) -> int | None:
    """Makes the workdir this experiment's, or checks that it is already.

    Raises InputError where the path is a file, holds something that is not a run, or
    holds another configuration (with the settings that differ). Layouts may differ: a
    run may go on where memory is another. A start that came to no row and no checkpoint
    claims nothing: the corrected command takes its place.

    Returns:
      The epochs that the run had until now, where it takes those of the experiment.
    """
    config = config_of(experiment)
    with reached(workdir):
        refuse_shared(workdir, NOT_TRAINED)
        if is_empty(workdir):
            write_new(workdir, config, init_from)
            return None
        other = read_config(workdir)
        differing = differences(other, config, but=(*LAYOUT, "epochs"))
        differing += origin_differences(other, init_from)
        epochs = config["arguments"].get("epochs")
        changed = with_defaults(other).get("epochs") != epochs
        if (differing or changed) and is_bare(workdir):
            write_new(workdir, config, init_from)
            return None
        if changed and not differing:
            return prolong(workdir, other, epochs, experiment.epoch_steps)
    if differing:
        if changed:
            differing.append(
                f"epochs {with_defaults(other).get('epochs')} (here {epochs})"
            )
        raise InputError(
            f"{workdir} holds another configuration: {'; '.join(differing)}. "
            "Give another --workdir, or the same settings to resume"
        )
    return None


def write_new(
    workdir: Path, config: Mapping[str, Any], init_from: "InitFrom | None"
) -> None:
    """The configuration of a new run, with the record of what it starts from."""
    init = {} if init_from is None else {"init": init_from.origin._asdict()}
    make_folder(workdir)
    write_json(workdir / "config.json", {**config, **init})


def origin_differences(
    config: Mapping[str, Any], init_from: "InitFrom | None"
) -> list[str]:
    """What differs in what a run started from."""
    recorded = origin_in(config)
    if init_from is not None:
        return init_from.differences(recorded)
    return [] if recorded is None else [f"init_from {recorded.source} (here none)"]


def prolong(workdir: Path, config: Mapping[str, Any], epochs: int, each: int) -> int:
    """Gives a run, of `each` steps an epoch, other epochs; returns those it had.

    InputError where it has trained more than these.
    """
    done = max(kept_steps(workdir / "checkpoints"), default=0)
    if done > epochs * each:
        raise InputError(
            f"--epochs {epochs} are fewer than {workdir} has trained ({done:,} steps, "
            f"{done / each:.4g} epochs): give more, or another --workdir"
        )
    arguments = {**config["arguments"], "epochs": epochs}
    write_json(workdir / "config.json", {**config, "arguments": arguments})
    return with_defaults(config)["epochs"]


def is_claimable(workdir: Path) -> bool:
    """Whether a run is there or can begin there; the folder is made for the latter.

    InputError where the path is a file, or no folder can be made there.
    """
    with reached(workdir):
        refuse_shared(workdir, NOT_TRAINED)
        if is_empty(workdir):
            make_folder(workdir)
            return True
        return (workdir / "config.json").exists()


def is_empty(workdir: Path) -> bool:
    """Whether nothing is there, or no more than a start that was killed at once."""
    if not workdir.exists():
        return True
    names = {path.name for path in check_directory(workdir).iterdir()}
    own = {"config.tmp", lock.NAME}
    return all(name in own or name.startswith(SCRATCH) for name in names)


def is_bare(workdir: Path) -> bool:
    """Whether a run has kept nothing yet: no row, no checkpoint, no divergence."""
    if any((workdir / name).exists() for name in ("metrics.jsonl", "diverged.json")):
        return False
    return not any(kept_steps(workdir / name) for name in ("checkpoints", "best"))


def kept_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, sound or not."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [int(name) for name in names if name.isdecimal() and name.isascii()]


def make_folder(workdir: Path) -> None:
    """Creates the folder; InputError where that, or writing in it, is not allowed.

    A bucket has no folders but those of the objects in it.
    """
    if is_remote(workdir):
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create {workdir}: {error.strerror}") from None
    if not os.access(workdir, os.W_OK):
        raise InputError(f"{workdir} is read-only: give another --workdir")


def check_directory(workdir: Path) -> Path:
    """The path, where it is no file."""
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file: give a folder as the workdir")
    return workdir


def write_json(path: Path, value: Any) -> None:
    """Writes whole or not at all."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def read_config(workdir: Path) -> dict[str, Any]:
    """The checked content of `config.json`."""
    path = check_directory(workdir) / "config.json"
    try:
        config = parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{workdir} is not a run: it has no config.json") from None
    except ValueError:
        raise InputError(f"{path} is not JSON: the run is damaged") from None
    if not isinstance(config, dict) or not whole_number(config.get("format")):
        raise InputError(f"{workdir} is not a run: its config.json is something else")
    if config["format"] > FORMAT:
        raise InputError(
            f"{workdir} was written by a newer vaejax: upgrade with "
            "`pip install --upgrade vaejax`"
        )
    try:
        check_config(config)
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return config


def recorded_experiment(workdir: Path) -> Experiment:
    """The experiment that a workdir holds, built again from its configuration."""
    return experiment_of(read_config(workdir))


def load(workdir: str | os.PathLike[str]) -> tuple[Experiment, TrainState]:
    """The experiment and the trained state of a workdir, or of a shared model.

    The state is the best on the validation split where the run stopped early, else
    that of the newest sound checkpoint. That of a shared model has no optimizer. The
    data is opened when it is asked for, not here.

    Args:
      workdir: a run's folder, or its place in a bucket (gs://); a folder that
        `share.py` wrote, or its address on the Hugging Face hub: hf://owner/name, at a
        branch, tag or commit hf://owner/name@revision.

    Returns:
      What `evaluate`, `sample` and the other functions take first.

    Raises:
      InputError: the path holds no run, or a run without a checkpoint; a file of a
        shared model is not what was shared; the hub has no such model.
    """
    from vaejax.parallel import abstract_state
    from vaejax.sharing.read import read_shared

    path = readable_workdir(workdir)
    with reached(path):
        if is_shared(path):
            return read_shared(path)
        experiment = recorded_experiment(path)
    state = newest_state(path, abstract_state(experiment))
    if state is None:
        raise InputError(f"{path} has no checkpoint yet: train it to its first one")
    return experiment, state


def newest_state(workdir: Path, abstract: TrainState) -> TrainState | None:
    """The best state or else the newest; None without a checkpoint.

    Where the best is damaged, a warning says so and the newest one is taken.
    """
    from vaejax.training.checkpoint import Unsound, read_newest

    if (workdir / "best").is_dir():
        try:
            if (state := read_newest(workdir / "best", abstract)) is not None:
                return state
        except Unsound as error:
            state = read_newest(workdir / "checkpoints", abstract)
            if state is None:
                raise
            log.warning("%s; the newest of checkpoints/ is taken instead", error)
            return state
    return read_newest(workdir / "checkpoints", abstract)
