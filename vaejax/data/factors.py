"""Known factors of variation among users' own arrays."""

from collections.abc import Sequence

import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.data.spec import Factor
from vaejax.errors import InputError

LARGEST = 2**16
"""A factor has fewer values."""


def factors_of_arrays(
    splits: Sequence[Arrays], names: Sequence[str], where: str
) -> tuple[Factor, ...]:
    """The factors that the entries `factors` `[N, F]` of splits hold, if there are any.

    Args:
      splits: those that may have factors.
      names: of the factors; factor_0, factor_1, ... where there are none.
      where: the data, for messages.

    Raises:
      InputError: an array has another shape or type, or names are not one for each.
    """
    pairs = [(a["factors"], len(a["x"])) for a in splits if "factors" in a]
    if not pairs:
        return ()
    first = pairs[0][0]
    width = first.shape[-1] if first.ndim == 2 else 0
    for array, count in pairs:
        if array.dtype.kind not in "iu" or array.shape != (count, width) or not width:
            raise InputError(
                f"factors of {where} have shape {array.shape} and dtype {array.dtype}: "
                f"give whole numbers, [{count}, factors]"
            )
        if array.min() < 0 or array.max() >= LARGEST:
            raise InputError(
                f"factors of {where} go from {array.min()} to {array.max()}: number "
                "the values of each as 0, 1, ..., as np.unique(column, "
                "return_inverse=True)[1] does"
            )
    names = names or [f"factor_{number}" for number in range(width)]
    if len(names) != width or len(set(names)) < width:
        raise InputError(
            f"{where} has {width} factors and {len(set(names))} different names: give "
            "one for each"
        )
    tops = np.max([array.max(0) for array, _ in pairs], 0)
    return tuple(Factor(n, int(top) + 1) for n, top in zip(names, tops, strict=True))
