"""The tables of papers on imputation, as files to train on."""

from pathlib import Path

import numpy as np

from vaejax.errors import InputError

NAMES = ("banknote", "breast", "concrete", "red", "white", "yeast")
# not-MIWAE hides three columns of yeast, half of six or seven: the two columns of two
# or three values (erl, pox) are left out of its table.
DROPPED = {"yeast": (4, 5)}


def read_tables(source: Path, dropped: bool = False) -> dict[str, np.ndarray]:
    """The tables by name, float64 `[N, D]` without targets; breast is scikit-learn's.

    `dropped` leaves out the columns that not-MIWAE's table does without.

    Raises:
      InputError: the file is none of NumPy's or lacks a table.
    """
    from sklearn.datasets import load_breast_cancer

    try:
        with np.load(source, allow_pickle=False) as file:
            found = {name: file[name].astype(np.float64) for name in file.files}
    except (OSError, ValueError, AttributeError):
        raise InputError(f"--tables {source} is no .npz of tables") from None
    found["breast"] = np.asarray(load_breast_cancer(return_X_y=True)[0])
    lacking = [name for name in NAMES if name not in found]
    if lacking:
        raise InputError(f"--tables {source} lacks {', '.join(lacking)}")
    leave = DROPPED if dropped else {}
    return {n: np.delete(found[n], leave.get(n, ()), axis=1) for n in NAMES}


def prepare_tables(source: Path, folder: Path) -> Path:
    """Writes one `.npz` a table, whose test split is its training split: what was
    hidden is what is imputed. Returns the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in read_tables(source, dropped=True).items():
        if not (folder / f"{name}.npz").exists():
            np.savez(folder / f"{name}.npz", x_train=x, x_test=x)
    return folder
