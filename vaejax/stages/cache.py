"""Latents that a run keeps: `latents/DIGEST.npz` in its folder, arrays only."""

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaejax.data.archive import read_arrays
from vaejax.data.dataset import Arrays, arrays_digest
from vaejax.data.spec import FirstStage, Spec
from vaejax.errors import InputError
from vaejax.sharing.kept import keep_arrays
from vaejax.stages.encoding import EncodedLatents

FOLDER = "latents"


def latents_place(workdir: Path, first: FirstStage) -> Path:
    """The file of a state's latents."""
    return workdir / FOLDER / f"{first.what}-{first.digest}.npz"


def kept_latents(
    workdir: Path, first: FirstStage, latents: EncodedLatents, source: Spec
) -> dict[str, Arrays] | None:
    """The latents that were kept of this state; None where there are none.

    A file that is not as it was written is said to be damaged, and made again.
    """
    place = latents_place(workdir, first)
    if not place.exists():
        return None
    try:
        splits = read_splits(place)
        sound = {s: len(a["x"]) for s, a in splits.items()} == dict(source.sizes)
        sound &= all(a["x"].shape[1:] == latents.shape for a in splits.values())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, InputError):
        sound, splits = False, None
    if sound:
        return splits
    print(f"warning: {place} is damaged, and is made again", file=sys.stderr)
    return None


def read_splits(place: Path) -> dict[str, Arrays]:
    """Arrays by split; ValueError where their digest is another."""
    arrays = read_arrays(place)
    digest, splits = str(arrays.pop("digest")), {}
    for name, array in arrays.items():
        split, _, entry = name.partition("/")
        splits.setdefault(split, {})[entry] = array
    if splits_digest(splits) != digest:
        raise ValueError("the content is another")
    return splits


def splits_digest(splits: Mapping[str, Arrays]) -> str:
    """blake2b of all arrays."""
    return arrays_digest((), splits, ())


def keep_latents(
    workdir: Path, first: FirstStage, splits: Mapping[str, Arrays]
) -> None:
    """Writes the file; where a run cannot be written, a warning says so."""
    arrays = {f"{s}/{n}": a for s, each in splits.items() for n, a in each.items()}
    arrays["digest"] = np.array(splits_digest(splits))
    keep_arrays(workdir, latents_place(workdir, first), arrays, "latents are")
