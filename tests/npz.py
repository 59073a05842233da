"""Reading of .npz files in tests."""

import numpy as np


def read_npz(path):
    """The arrays of a file by name, with the file closed.

    Left to the garbage collector, it warns in whichever test runs at that moment.
    """
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
