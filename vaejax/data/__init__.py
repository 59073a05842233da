"""Where examples come from: TFDS sets, our own small ones, `.npz` files and arrays.

Importing this package, and opening a data set that is cached already, loads NumPy and
the standard library only.
"""

from vaejax.data.arrays import from_arrays
from vaejax.data.dataset import Dataset
from vaejax.data.opening import open_dataset
from vaejax.data.spec import Spec

__all__ = ["Dataset", "Spec", "from_arrays", "open_dataset"]
