"""A fixed division into train and test that keeps the share of every class."""

import numpy as np

from vaejax.data.splits import fixed_permutation

TEST_SHARE = 0.2


def stratified(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Row numbers of each split: a fifth of every class is "test", the rest "train".

    `labels` is `[N]`; the rows come in ascending order.
    """
    train, test = [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[fixed_permutation(len(rows), purpose=2)]
        held = round(len(rows) * TEST_SHARE)
        test.append(rows[:held])
        train.append(rows[held:])
    return {
        "train": np.sort(np.concatenate(train)),
        "test": np.sort(np.concatenate(test)),
    }
