"""A workdir: which run lives in it, and reading it back.

`config.json` holds the preset's name and arguments and the description of the data; it
is all that is needed to build the experiment again. Nothing in a workdir is code.
"""

import dataclasses
import inspect
import json
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vaejax.configs import Data
from vaejax.data import Dataset, Spec
from vaejax.data.stored import read_as
from vaejax.errors import InputError, nearest
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime import lock
from vaejax.runtime.jsonlines import parsed, whole_number
from vaejax.runtime.storage import SCRATCH, is_remote, path_of, reached, write_whole
from vaejax.training.older import SETTINGS

log = logging.getLogger(__name__)
FORMAT = 1
# Settings that may change when a run goes on: where its state lives, what is computed
# again, and what becomes of a corrupt record, which ended it before.
LAYOUT = ("fsdp", "remat", "skip_corrupt")


def config_of(experiment: Experiment) -> dict[str, Any]:
    """What `config.json` holds: JSON values only."""
    arguments = dict(experiment.arguments)
    if isinstance(arguments.get("dataset"), Dataset):
        arguments["dataset"] = arguments["dataset"].spec.name
    config = {
        "format": FORMAT,
        "preset": experiment.name,
        "arguments": arguments,
        "data": experiment.dataset.spec.to_json(),
    }
    config |= {
        "likelihood": experiment.likelihood,
        "shape": experiment.dataset.spec.shape,
    }
    return json.loads(json.dumps(config))


def workdir_of(name: str | os.PathLike[str]) -> Path:
    """The path of a workdir; InputError where no checkpoint could be written to it."""
    path = path_of(name)
    if str(path).startswith("s3:"):
        raise InputError(
            f"{re.sub('^s3:/+', 's3://', str(path))}: checkpoints go to a folder or to "
            "gs://, not to s3://; mount the bucket as a folder"
        )
    return path


def claim(workdir: Path, experiment: Experiment) -> None:
    """Makes the workdir this experiment's, or checks that it is already.

    Raises InputError where the path is a file, holds something that is not a run, or
    holds another configuration (with the settings that differ). Layouts may differ: a
    run may go on where memory is another. A start that came to no row and no checkpoint
    claims nothing: the corrected command takes its place.
    """
    config = config_of(experiment)
    with reached(workdir):
        if is_empty(workdir):
            make_folder(workdir)
            write_json(workdir / "config.json", config)
            return
        other = read_config(workdir)
        differing = differences(other, config, but=LAYOUT)
        if differing and is_bare(workdir):
            write_json(workdir / "config.json", config)
            return
    if differing:
        raise InputError(
            f"{workdir} holds another configuration: {'; '.join(differing)}. "
            "Give another --workdir, or the same settings to resume"
        )


def is_claimable(workdir: Path) -> bool:
    """Whether a run is there or can begin there; the folder is made for the latter.

    InputError where the path is a file, or no folder can be made there.
    """
    with reached(workdir):
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
    folders = [workdir / name for name in ("checkpoints", "best")]
    kept = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return not any(path.name.isdigit() for path in kept)


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


def check_config(config: Mapping[str, Any]) -> None:
    """InputError where it is not of a preset, its settings and a data set."""
    from vaejax.presets import PRESETS

    name, arguments = config.get("preset"), config.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError("it needs a preset and its arguments")
    if name not in PRESETS:
        raise InputError(f"it is of preset {name[:40]!r}: {nearest(name, PRESETS)}")
    known = inspect.signature(PRESETS[name]).parameters
    for setting, value in arguments.items():
        if setting not in known:
            raise InputError(
                f"{name} has no setting {setting[:40]!r}: {nearest(setting, known)}"
            )
        read_as(known[setting].annotation, value, setting)
    spec = Spec.from_json(config.get("data", {}))
    read_as(str, config.get("likelihood", ""), "likelihood")
    shape = read_as(tuple[int, ...], config.get("shape", spec.shape), "shape")
    if shape != spec.shape:
        raise InputError("shape is not that of the data")


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], but: Collection[str] = ()
) -> list[str]:
    """Settings that differ, each as `name old (here new)`; of `but` they may."""
    found = []
    if old["preset"] != new["preset"]:
        found.append(f"preset {old['preset']} (here {new['preset']})")
    before, after = with_defaults(old), dict(new["arguments"])
    # What `auto` stands for is compared: older runs took all pictures as bits.
    if new.get("likelihood"):
        before["likelihood"] = likelihood_of(old)
        after["likelihood"] = new["likelihood"]
    for name in sorted((before.keys() | after.keys()) - set(but)):
        if before.get(name) != after.get(name):
            found.append(f"{name} {before.get(name)} (here {after.get(name)})")
    if not found and old["data"]["digest"] != new["data"]["digest"]:
        found.append(f"the content of {new['data']['name']} has changed")
    return found


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and the defaults of settings that are younger than the run."""
    return defaults_of(config["preset"]) | recorded_arguments(config)


def recorded_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and those that were fixed when the run was written."""
    return {**SETTINGS.get(config["preset"], {}), **config["arguments"]}


def defaults_of(name: str) -> dict[str, Any]:
    """The defaults of a preset's settings, as JSON; none where it is unknown."""
    from vaejax.presets import PRESETS

    make = PRESETS.get(name)
    known = inspect.signature(make).parameters if make else {}
    defaults = {each: parameter.default for each, parameter in known.items()}
    return json.loads(json.dumps(defaults))


def recorded_experiment(workdir: Path) -> Experiment:
    """The experiment that a workdir holds, built again from its configuration."""
    return experiment_of(read_config(workdir))


def experiment_of(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a checked `config.json`."""
    from vaejax.presets import PRESETS

    name, arguments = config["preset"], recorded_arguments(config)
    spec = Spec.from_json(config["data"])
    opened = recorded_dataset(spec, with_defaults(config))
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in arguments.items()}
    return PRESETS[name](**given | {"dataset": opened})


def likelihood_of(config: Mapping[str, Any]) -> str:
    """The likelihood by name, `auto` resolved; empty where settings choose none."""
    if "likelihood" in config:
        return config["likelihood"]
    return experiment_of(config).likelihood


def recorded_dataset(spec: Spec, arguments: Mapping[str, Any]) -> Dataset:
    """The dataset as the run knew it; its examples are opened when they are asked for.

    So a run can be loaded and sampled where its data is not.
    """

    def found() -> Dataset:
        from vaejax.data import open_dataset
        from vaejax.data.numerals import HOLES

        fields = (field.name for field in dataclasses.fields(Data))
        data = Data(**{name: arguments[name] for name in fields})
        chosen = data.dataset, data.validation, data.counts, data.categories
        # Runs that know no names took labels as they are stored.
        named = bool(spec.names)
        table = data.csv
        # Older runs took NA for a hole in texts, too.
        if spec.name.startswith("csv:") and spec.dialect is None:
            table = table._replace(missing=HOLES)
        found = open_dataset(*chosen, data.reading, named=named, table=table)
        if found.spec.digest != spec.digest:
            raise InputError(f"the content of {spec.name} is not what the run saw")
        return found

    return Dataset(
        spec, lambda name: found().split(name), lambda name: found().examples(name)
    )


def load(workdir: str | os.PathLike[str]) -> tuple[Experiment, TrainState]:
    """The experiment and the trained state of a workdir.

    The state is the best on the validation split where the run stopped early, else
    that of the newest sound checkpoint.

    Args:
      workdir: a run's folder, or its place in a bucket (gs://).

    Returns:
      What `evaluate`, `sample` and the other functions take first.

    Raises:
      InputError: the path holds no run, or a run without a checkpoint.
    """
    from vaejax.parallel import abstract_state

    path = workdir_of(workdir)
    with reached(path):
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
