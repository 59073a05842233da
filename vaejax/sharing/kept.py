"""Arrays that a run keeps in its folder, where that can be written."""

import errno
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vaejax.apply.rows import write_npz
from vaejax.sharing.manifest import is_shared


def keep_arrays(
    workdir: Path, place: Path, arrays: Mapping[str, np.ndarray], what: str
) -> None:
    """Writes an `.npz` in a folder of a run; where it cannot, a warning says so.

    Args:
      workdir: the run.
      place: the file, in a folder of the run that may not be there yet.
      arrays: its content.
      what: the beginning of the warning, as "the fit is".
    """
    reason = "it is a shared model" if is_shared(workdir) else ""
    if not reason:
        try:
            place.parent.mkdir(exist_ok=True)
            write_npz(place, arrays)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            reason = error.strerror or "it cannot be written"
    print(f"warning: {what} not kept in {workdir}: {reason}", file=sys.stderr)
