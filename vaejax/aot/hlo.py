"""Reads the text of a compiled program (XLA's HLO)."""

import math
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
BYTES = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
BYTES |= {f"{sign}{bits}": bits // 8 for sign in "su" for bits in (8, 16, 32, 64)}
_CALL = re.compile(
    rf"^\s*(?:ROOT )?\S+ = (.+?) ({'|'.join(KINDS)})(-start)?\((.*)", re.MULTILINE
)
_LOOP = re.compile(r"^\s*(?:ROOT )?\S+ = .+ while\(", re.MULTILINE)
_ARRAY = re.compile(r"\b(\w+)\[([\d,]*)\]")
_ALIAS = re.compile(r"\{[\d, ]*\}: \((\d+), \{(\d*)")
_CHAIN = re.compile(r'channel_id=(\d+).*chain_id="(\d+)"')
# The forms that groups of devices are written in.
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_MESH = re.compile(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\S+)? \{(.*?)\}")


class Collective(NamedTuple):
    """One exchange between devices: what each device gets of it."""

    kind: str
    counts: tuple[int, ...]
    """Number of elements of each of its arrays."""
    size: int
    """Bytes of all its arrays together."""
    group: int = 0
    """Devices that exchange with each other; 0 is all."""

    def sent(self, devices: int) -> float:
        """Bytes that a device sends when they go around a ring, the least there is."""
        devices = self.group or devices
        others = (devices - 1) / devices
        return (
            self.size
            * {
                "all-reduce": 2 * others,
                "all-gather": others,
                "reduce-scatter": others * devices,  # `size` is what is left of it
                "all-to-all": others,
                "collective-permute": 1.0,
            }[self.kind]
        )


def collectives(text: str) -> list[Collective]:
    """Every exchange in a program, in order; those in the body of a loop once.

    TPUs' compiler lets one exchange go along with several computations, a chain, in
    each of which it is written; and it writes a reduce-scatter as a computation of that
    name, an all-reduce of which a part is kept.
    """
    found, chains = [], set()
    for computation in text.split("\n\n"):
        scattered = computation.lstrip().startswith("%all-reduce-scatter")
        for shape, kind, start, rest in _CALL.findall(computation):
            chain = _CHAIN.search(rest)
            if chain and (kind, *chain.groups()) in chains:
                continue
            if chain:
                chains.add((kind, *chain.groups()))
            each = collective(kind, bool(start), shape, group_of(rest))
            found.append(kept_part(each) if scattered and each.group else each)
    return found


def loops(text: str) -> int:
    """The loops of a program; one within another counts, too."""
    return len(_LOOP.findall(text))


def collective(kind: str, start: bool, shape: str, group: int = 0) -> Collective:
    """From the shape of its result, as in `(f32[3,4]{1,0}, bf16[])`."""
    arrays = [
        (math.prod(int(side) for side in sides.split(",") if side), BYTES.get(dtype, 1))
        for dtype, sides in _ARRAY.findall(re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape))
    ]
    if start and kind == "collective-permute":  # (given, got, two semaphores)
        arrays = arrays[1:2]
    elif start and kind != "all-reduce":  # (all given, all got)
        arrays = arrays[len(arrays) // 2 :]
    counts = tuple(count for count, _ in arrays)
    size = sum(count * width for count, width in arrays)
    return Collective(kind, counts, size, group)


def group_of(attributes: str) -> int:
    """Number of devices that exchange with each other; 0 if unstated: all."""
    if listed := _LISTED.search(attributes):
        return listed[1].count(",") + 1
    if counted := _COUNTED.search(attributes):
        return int(counted[1])
    if over := _MESH.search(attributes):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", over[1]))
        return math.prod(int(sides[axis]) for axis in re.findall(r"'(\w+)'", over[2]))
    return 0


def kept_part(reduced: Collective) -> Collective:
    """An all-reduce of which each device keeps its part."""
    counts = tuple(count // reduced.group for count in reduced.counts)
    return Collective(
        "reduce-scatter", counts, reduced.size // reduced.group, reduced.group
    )


def of_weights(
    found: Sequence[Collective], counts: Collection[int]
) -> list[Collective]:
    """The all-reduces that carry gradients: an array as large as a weight matrix.

    `counts` are the sizes of matrices and kernels; biases are as large as BatchNorm's
    statistics and tell nothing. An array larger than all of them is several gradients,
    laid end to end, as CUDA's compiler does.
    """
    known, most = set(counts), max(counts)
    sums = [each for each in found if each.kind == "all-reduce"]
    return [s for s in sums if any(n in known or n > most for n in s.counts)]


def aliased(text: str) -> set[int]:
    """Numbers of the arguments whose memory the results take.

    A TPU takes more than 2,000 of them as one tuple: then their places in it.
    """
    head = text.partition("\n")[0]
    inside = head.partition("input_output_alias={")[2].partition(" }")[0]
    return {int(place or number) for number, place in _ALIAS.findall(inside)}
