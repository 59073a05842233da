"""The six tables of the papers on imputation, each as an `.npz` to train on.

The test split is the training split: what was hidden is what is imputed. Of yeast the
two columns of two or three values (erl, pox) are dropped for not-MIWAE's table, because
its paper hides three columns, which is half of six or seven.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

DROPPED = {"yeast": (4, 5)}


def tables(source: str) -> dict[str, np.ndarray]:
    """By name, float64 `[N, D]`, without their targets."""
    with np.load(source, allow_pickle=False) as file:
        found = {name: file[name].astype(np.float64) for name in file.files}
    return found | {"breast": np.asarray(load_breast_cancer(return_X_y=True)[0])}


def main(source: str, folder: Path) -> None:
    """Writes one file for each table that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, x in tables(source).items():
        x = np.delete(x, DROPPED.get(name, ()), axis=1)
        if not (folder / f"{name}.npz").exists():
            np.savez(folder / f"{name}.npz", x_train=x, x_test=x)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
