"""Available memory, and refusal of what cannot fit before anything is computed.

A machine that has promised more memory than it has kills processes without a word.
"""

import math
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax.errors import InputError

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def available() -> float:
    """Bytes that this process may still take of the machine; inf where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        sizes = {line.split(":")[0]: line.split()[1] for line in lines}
        free = int(sizes["MemAvailable"]) * 1024 + int(sizes["SwapFree"]) * 1024
    except (OSError, KeyError, ValueError, IndexError):  # not Linux
        free = math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


def available_on(devices: Sequence[Any]) -> float:
    """Bytes of each device; CPU devices share the machine's."""
    if devices[0].platform == "cpu":
        return available() / len(devices)
    stats = [device.memory_stats() or {} for device in devices]
    return min(each.get("bytes_limit", math.inf) for each in stats)


def check_fits(needed: float, what: str, advice: str) -> None:
    """InputError where the machine has fewer bytes left than needed."""
    refuse_above(available(), needed, what, advice)


def refuse_above(room: float, needed: float, what: str, advice: str) -> None:
    """InputError where `needed` bytes are more than `room`."""
    if needed > room:
        raise InputError(
            f"{what} would take {size(needed)} of memory, and {size(room)} are "
            f"available: {advice}"
        )


def bytes_of(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of their shapes, of whatever size."""
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def size(count: float) -> str:
    """Bytes as people write them: `1.5 GiB`."""
    power = 0
    while count >= 1024 and power < len(UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} {UNITS[0]}" if not power else f"{count:,.1f} {UNITS[power]}"
