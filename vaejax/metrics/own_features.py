"""Features that a user made elsewhere, from an .npz file."""

import hashlib
import re
import zipfile
from pathlib import Path

import numpy as np

from vaejax.data.archive import check_sizes
from vaejax.errors import InputError
from vaejax.metrics.features import checked_features, compare_features

ARRAYS = {"real": "the data", "generated": "the samples"}


def compare_file(path: Path) -> dict[str, float | str | int]:
    """Distances of features `generated` to `real` `[examples, features]` of a file.

    Returns:
      The numbers of `compare_features`, which end in the name of the file, with the
      numbers of examples and a digest of the features.

    Raises:
      InputError: the file is no .npz, or its arrays cannot be compared.
    """
    arrays, name = read_features(path), name_of_file(path)
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays.values():
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return {
        **compare_features(arrays["real"], arrays["generated"], name),
        f"generated_{name}": len(arrays["generated"]),
        f"compared_with_{name}": len(arrays["real"]),
        f"{name}_digest": digest.hexdigest(),
    }


def read_features(path: Path) -> dict[str, np.ndarray]:
    """`real` and `generated` of a file, checked, in float64."""
    wanted = "give an .npz with real and generated [examples, features]"
    try:
        with open(path, "rb") as stream:
            check_sizes(stream, path)
            with np.load(stream, allow_pickle=False) as file:
                found = {name: file[name] for name in ARRAYS if name in file}
    except FileNotFoundError:
        raise InputError(f"--features {path}: there is no such file") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"--features {path} ({error}): {wanted}") from None
    if lacking := ", ".join(ARRAYS.keys() - found.keys()):
        raise InputError(f"--features {path} has no {lacking}: {wanted}")
    return {name: checked_features(found[name], ARRAYS[name]) for name in ARRAYS}


def name_of_file(path: Path) -> str:
    """The name of a file as the end of a number's name."""
    return re.sub(r"\W+", "_", path.stem).strip("_").lower() or "file"
