"""Peak figures of chips, as their makers publish them.

TPUs: docs.cloud.google.com/tpu/docs/v4, v5e, v5p and v6e (read in November 2026). The
bidirectional bandwidths of the interconnect there (v5e 400, v5p 1200, v6e 800 GB/s) are
twice what a chip sends; v4's is the 2400 Gbit/s of earlier versions of that page.
H100 SXM: NVIDIA's data sheet, bf16 without sparsity, NVLink 900 GB/s in and out.

Products of float32 matrices run as bfloat16 passes on a TPU unless
`jax_default_matmul_precision` says otherwise, so the bf16 rate is theirs, too; on an
H100 they run as TF32, at half that rate.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple


class Chip(NamedTuple):
    """One device: rates a second, sizes in bytes."""

    name: str
    platform: Literal["tpu", "cuda"]
    flops: float
    """Peak bf16 FLOP/s."""
    bandwidth: float
    """Bandwidth of its memory (HBM), bytes/s."""
    memory: float
    """Size of its memory, bytes."""
    network: float
    """Bytes/s that it sends over all its links together."""
    axes: int
    """Dimensions of its slices' torus; 0 where all chips are connected alike."""


GIB = 2**30
_KNOWN = (
    Chip("v4", "tpu", 275e12, 1200e9, 32 * GIB, 300e9, 3),
    Chip("v5e", "tpu", 197e12, 819e9, 16 * GIB, 200e9, 2),
    Chip("v5p", "tpu", 459e12, 2765e9, 95 * GIB, 600e9, 3),
    Chip("v6e", "tpu", 918e12, 1638e9, 32 * GIB, 400e9, 2),
    Chip("h100", "cuda", 989e12, 3350e9, 80e9, 450e9, 0),
)
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in _KNOWN})
