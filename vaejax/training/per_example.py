"""Numbers of single examples: what an evaluation averages, and its files."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.apply.rows import write_npz
from vaejax.data.arrays import read_npz
from vaejax.data.stored import read_record
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.jsonlines import parsed
from vaejax.runtime.limits import check_seed
from vaejax.runtime.storage import is_remote, path_of
from vaejax.training.evaluator import SplitNumbers, measure_split

NAME = "per_example.npz"
"""Place in a run's folder where a comparison looks for them."""
FORMAT = 1
OWN = ("about", "index", "seen", "label")
"""Entries of a file that are no metrics."""


class MeasuredSplit(NamedTuple):
    """What was measured, and how: files with the same conditions can be paired."""

    preset: str
    likelihood: str
    data: str
    digest: str
    """Digest of the data that was trained on."""
    split: str
    step: int
    samples: int
    """Importance samples of each example; 0 where there was no need of any."""
    batch_size: int
    seed: int
    """Seed of the evaluation's noise, which is that of the run by default."""
    input: str = ""
    """Name of a user's file that stood for the split."""
    format: int = FORMAT


class ExampleValues(NamedTuple):
    """Numbers of each example of a split, in their order."""

    about: MeasuredSplit
    index: np.ndarray
    """Places in the split, int32 `[N]`."""
    label: np.ndarray | None
    """Labels: the data's own where these are whole numbers or texts; None without."""
    seen: np.ndarray
    """Fingerprints of what the model was given, float32 `[N]`: after binarization, say.
    Runs whose fingerprints agree were measured on the same inputs."""
    values: dict[str, np.ndarray]
    """Metrics by name, float32 `[N]`: their means are what `evaluate` gives."""


def per_example(
    experiment: Experiment,
    state: TrainState,
    *,
    split: str = "test",
    samples: int = 5000,
    batch_size: int = 100,
    devices: int | None = 1,
    seed: int | None = None,
) -> ExampleValues:
    """The metrics of each example, whose means over the split `evaluate` gives.

    Two runs that were measured alike can be compared example by example: the difference
    of their means has a far smaller error than either mean.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      split: train, validation or test.
      samples: importance samples of the log-likelihood, exactly so many for each
        example; 0 leaves it out.
      batch_size: examples at a time, at most all; a part of the noise's definition.
      devices: devices to use of each host.
      seed: of the noise (binarization, draws of z); None is the run's own seed, whose
        noise `evaluate` has.

    Returns:
      `values` by name, of most models `elbo`, `distortion` -log p(x | z), `kl`, `nll`
      and the effective sample size `nll_ess`, in nats but for the last one; and beside
      them `index`, `label`, `seen` and `about`. What is no mean over examples is left
      out (bits_per_dim, active_units).

    Raises:
      InputError: no such split, or a number out of range.
    """
    if seed is not None:
        check_seed("seed", seed)
    found = measure_split(experiment, state, split, samples, batch_size, devices, seed)
    about = measurement_of(experiment, state, split, samples, batch_size, seed)
    return example_values(experiment, about, found)


def measurement_of(
    experiment: Experiment,
    state: TrainState,
    split: str,
    samples: int,
    batch_size: int,
    seed: int | None = None,
    source: str = "",
) -> MeasuredSplit:
    """The conditions of an evaluation; `source` is a user's file, if any."""
    spec = experiment.dataset.spec
    return MeasuredSplit(
        preset=experiment.name,
        likelihood=experiment.likelihood,
        data=spec.name,
        digest=spec.digest,
        split=split,
        step=int(state.step),
        samples=samples,
        batch_size=batch_size,
        seed=experiment.training.seed if seed is None else seed,
        input=source,
    )


def example_values(
    experiment: Experiment, about: MeasuredSplit, found: SplitNumbers
) -> ExampleValues:
    """The numbers of an evaluation's examples, with their labels as the data has them.

    A label that no training example had is -1.
    """
    each = dict(found.each)
    seen, label = each.pop("seen"), each.pop("label", None)
    names = experiment.dataset.spec.names
    if label is not None and names:
        label = np.where(label < 0, "", np.array([*names, ""])[label])
    return ExampleValues(about, np.arange(len(seen), dtype=np.int32), label, seen, each)


def write_examples(found: ExampleValues, place: Path) -> None:
    """Writes an `.npz`: `about` as JSON, `index`, `seen`, `label` and each metric."""
    label = {} if found.label is None else {"label": found.label}
    about = np.array(json.dumps(found.about._asdict()))
    own = {"about": about, "index": found.index, "seen": found.seen} | label
    write_npz(path_of(place), own | found.values)


def read_examples(place: Path) -> ExampleValues:
    """The content of a file that `write_examples` has written.

    Raises:
      InputError: there is no such file, or it holds something else.
    """
    arrays = read_npz(path_of(place))
    try:
        about = read_record(MeasuredSplit, parsed(str(arrays["about"])), "about")
    except (KeyError, ValueError, InputError):
        raise InputError(
            f"{place} holds no numbers of examples that this vaejax knows: write it by "
            "evaluate.py --per-example"
        ) from None
    values = {name: array for name, array in arrays.items() if name not in OWN}
    columns = {name: a for name, a in arrays.items() if name != "about"}
    count = len(np.atleast_1d(columns.get("index", np.zeros(0))))
    sound = {"index", "seen"} <= columns.keys() and all(
        a.shape == (count,) for a in columns.values()
    )
    if not sound or not all(a.dtype.kind == "f" for a in values.values()):
        raise InputError(f"{place} is damaged: evaluate again")
    return ExampleValues(
        about, arrays["index"], arrays.get("label"), arrays["seen"], values
    )


def check_example_file(place: Path | None) -> None:
    """InputError where numbers of examples cannot be written there."""
    if place is None:
        return
    place = path_of(place)
    if place.suffix != ".npz":
        raise InputError(f"--per-example {place}: the name must end in .npz")
    if not is_remote(place) and not place.parent.is_dir():
        raise InputError(f"--per-example {place}: there is no folder {place.parent}")
