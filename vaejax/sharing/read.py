"""Loading a shared folder: no file of it is code, and none is believed unchecked."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.storage import is_remote, reached
from vaejax.sharing.manifest import (
    NEEDED,
    PARAMETERS,
    Manifest,
    check_files,
    read_manifest,
)

T = TypeVar("T")


def read_shared(folder: Path) -> tuple[Experiment, TrainState]:
    """The experiment and the state of a shared folder.

    The data is not opened; its description is in the folder. The state has no
    optimizer: it is for queries and evaluation.

    Raises:
      InputError: a file is missing, not what was shared, or of a newer format; the
        parameters are not those of the model.
    """
    from vaejax.parallel import abstract_state
    from vaejax.sharing.tensors import read_tensors
    from vaejax.training.workdir import recorded_experiment

    manifest = read_manifest(folder)
    with on_this_machine(folder, manifest) as here:
        check_files(here, manifest)
        experiment = without_data(recorded_experiment(here))
        abstract = abstract_state(experiment)
        return experiment, read_tensors(here / PARAMETERS, abstract, manifest.step)


def without_data(experiment: Experiment) -> Experiment:
    """The experiment, whose data may lie where it is looked for or not: an error says
    what to do then.
    """
    dataset = experiment.dataset
    hint = (
        f"a shared model comes without its data, {dataset.spec.name}: bring that here, "
        "or give examples of your own"
    )

    def hinted(read: Callable[[str], T]) -> Callable[[str], T]:
        def call(split: str) -> T:
            try:
                return read(split)
            except InputError as error:
                raise InputError(f"{error} ({hint})") from None

        return call

    there = dataset._replace(
        split=hinted(dataset.split), examples=hinted(dataset.examples)
    )
    return dataclasses.replace(experiment, dataset=there)


@contextlib.contextmanager
def on_this_machine(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """The folder; while entered a copy of what load reads, where it is in a bucket."""
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        with reached(folder):
            for name in manifest.files.keys() & {*NEEDED}:
                (Path(scratch) / name).write_bytes((folder / name).read_bytes())
        yield Path(scratch)
