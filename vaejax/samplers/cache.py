"""Fitted samplers in a run's folder: `samplers/KIND.npz`, arrays and digests only."""

import hashlib
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from vaejax.data.archive import read_arrays
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.purposes import OfRun
from vaejax.samplers.fit import fit_sampler
from vaejax.samplers.record import (
    Fitted,
    Sampler,
    SamplerName,
    check_sampler_name,
    state_digest,
)
from vaejax.sharing.kept import keep_arrays

ABOUT = ("shape", "classes", "model", "digest")
"""Names of what is told beside the arrays of a sampler, which begin with `of/`."""


def sampler_of_run(
    workdir: Path,
    experiment: Experiment,
    state: TrainState,
    kind: SamplerName,
    *,
    components: int = 0,
    refit: bool = False,
) -> Sampler | None:
    """The sampler of that kind that a run keeps, fitted if there is none; None for the
    prior.

    The fit depends on the run's seed alone. One that was made of other parameters, as
    of a run that has trained on since, is made again.

    Raises:
      InputError: the file is damaged or has other components, or as of `fit_sampler`.
    """
    if kind == "prior":
        if components or refit:
            raise InputError("--components and --refit are of a fitted --sampler")
        return None
    check_sampler_name(kind)
    path = workdir / "samplers" / f"{kind}.npz"
    kept = None if refit or not path.exists() else read_sampler(path, kind)
    if kept is not None and kept.model_digest == state_digest(state):
        check_components(kept, components, path)
        return kept
    reason = " (the run has trained on since the last fit)" if kept else ""
    size = experiment.dataset.spec.sizes["train"]
    line = f"fits {kind} to the encodings of {size:,} training examples{reason}"
    print(line, file=sys.stderr, flush=True)
    root = jax.random.key(experiment.training.seed)
    key = jax.random.fold_in(root, OfRun.SAMPLER)
    found = fit_sampler(experiment, state, kind, key, components=components)
    keep_sampler(found, path)
    return found


def check_components(kept: Sampler, components: int, path: Path) -> None:
    """InputError where other components are asked for than are kept."""
    if components and (there := kept.arrays["weights"].shape[1]) != components:
        raise InputError(f"{path} has {there} components: give --refit for another fit")


def keep_sampler(sampler: Sampler, path: Path) -> None:
    """Writes the file; where a run cannot be written, a warning says so."""
    about = {
        "shape": np.array(sampler.shape, np.int64),
        "classes": np.array(sampler.classes),
        "model": np.array(sampler.model_digest),
        "digest": np.array(content_digest(sampler)),
    }
    arrays = {f"of/{name}": array for name, array in sampler.arrays.items()}
    keep_arrays(path.parent.parent, path, about | arrays, "the fit is")


def read_sampler(path: Path, kind: Fitted) -> Sampler:
    """The sampler in a file; InputError where it is not as it was written."""
    damaged = f"{path} is damaged: give --refit to make it again"
    try:
        found = read_arrays(path)
        shape = tuple(map(int, found["shape"]))
        arrays = own_arrays(found)
        model = str(found["model"])
        sampler = Sampler(kind, shape, int(found["classes"]), arrays, model)
        sound = str(found["digest"]) == content_digest(sampler)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(damaged) from None
    if not sound:
        raise InputError(damaged)
    return sampler


def own_arrays(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of the sampler itself, without what is told about them."""
    named = {n: a for n, a in found.items() if n not in ABOUT}
    return {name.removeprefix("of/"): array for name, array in named.items()}


def content_digest(sampler: Sampler) -> str:
    """blake2b of all that a sampler is."""
    about = (sampler.kind, sampler.shape, sampler.classes, sampler.model_digest)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=16)
    for name, array in sorted(sampler.arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
