"""Slices of accelerators by name, for a compiler that needs none of them."""

import glob
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.aot.chips import CHIPS, Chip
from vaejax.errors import InputError, nearest

# The shapes that are rented most, by number of axes; of others the name is as good.
SHAPES = {
    2: ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    3: ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
}
# What XLA asks of an H100; it takes the card's word where there is one.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Slice(NamedTuple):
    """Devices that exist by name only."""

    name: str
    chip: Chip
    devices: Sequence[Any]
    mesh: Mesh
    """All of them, on the axes of training's."""

    @property
    def hosts(self) -> int:
        return len({device.process_index for device in self.devices})

    @property
    def single(self) -> Mesh:
        """One of them."""
        return Mesh(np.array(self.devices[:1]), ("data",))


def open_slice(name: str, fsdp: int = 1) -> Slice:
    """The slice of a name as `v5e:4x4`, `v5p:4x4x4` or `h100:8`.

    Raises InputError where there is none of that name, its compiler is missing, or
    `fsdp`, the devices that share a copy of the state, does not divide its devices.
    """
    chip = chip_of(name)
    sides = name.partition(":")[2].split("x")
    axes = parallel.axes(math.prod(map(int, sides)), fsdp)
    without_hardware()
    opened = cuda_slice if chip.platform == "cuda" else tpu_slice
    return opened(name, chip, axes)


def chip_of(name: str) -> Chip:
    """The chip of a well-formed name; InputError with the nearest name of others."""
    found = re.fullmatch(r"(\w+):(\d{1,9}(?:x\d{1,9})*)", name)
    chip = CHIPS.get(found[1]) if found else None
    if not found or chip is None:
        raise InputError(f"--topology {name}: {suggestion(name)}")
    shape = tuple(int(side) for side in found[2].split("x"))
    if len(shape) != (chip.axes or 1) or min(shape) < 1:
        raise InputError(f"--topology {name}: {suggestion(f'{chip.name}:')}")
    return chip


def names() -> list[str]:
    """Names of slices, each of which compiles."""
    shapes = SHAPES | {0: ("8",)}
    return [f"{c.name}:{shape}" for c in CHIPS.values() for shape in shapes[c.axes]]


def suggestion(name: str) -> str:
    """The slice that was meant, where that can be told.

    Google's own names have other units: `v5litepod-8` are 8 chips, and `v5p-16` the 16
    cores of 8 chips.
    """
    plain = name.lower().replace("v5litepod", "v5e").replace("v5lite", "v5e")
    counted = re.fullmatch(r"(v\d\w?)-(\d{1,9})", plain)
    chip = CHIPS.get(counted[1]) if counted else None
    if counted and chip:
        count = int(counted[2]) // (2 if chip.axes == 3 else 1)
        for shape in SHAPES[chip.axes]:
            if math.prod(map(int, shape.split("x"))) == count:
                return f"did you mean {chip.name}:{shape}?"
    if plain in names():
        return f"did you mean {plain}?"
    head, colon, _ = plain.partition(":")
    if colon and head in CHIPS:
        known = [n.partition(":")[2] for n in names() if n.startswith(f"{head}:")]
        return f"the shapes of {head} are such as {', '.join(known)}"
    return nearest(plain, names())


def without_hardware() -> None:
    """Lets the compilers load where there is no accelerator; never opens one.

    Before JAX's first computation, so that its default backend is the CPU. libtpu would
    ask Google's metadata server what it runs on and warn about the answer, and would
    let one process at a time load it, which only real chips need.
    """
    if not jax.config.jax_platforms:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_platforms", "cpu")
    # What is compiled for other devices is written to the cache, but never found there.
    jax.config.update("jax_enable_compilation_cache", False)
    defaults = {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_LOG_DIR": "disabled",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    }
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"):
        defaults["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    for variable, value in defaults.items():
        os.environ.setdefault(variable, value)


def tpu_slice(name: str, chip: Chip, axes: Mapping[str, int]) -> Slice:
    """Devices as libtpu knows them, in an order that follows their links."""
    from jax.experimental import topologies

    if find_spec("libtpu") is None:
        raise InputError(f"--topology {name} needs libtpu: pip install 'vaejax[aot]'")
    # A v4 has two cores, which work as one device; a lone chip has a host of its own.
    options: dict[str, Any] = {}
    if chip.name == "v4":
        options["chip_config_name"] = "megacore"
    if name.endswith(":1x1"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        topology = topologies.get_topology_desc(
            platform="tpu", topology_name=name, **options
        )
        mesh = topologies.make_mesh(topology, tuple(axes.values()), tuple(axes))
    except Exception as error:  # of libtpu's, which has no kinds of its own
        raise InputError(
            f"--topology {name}: libtpu says {first_line(error)}"
        ) from None
    return Slice(name, chip, topology.devices, mesh)


def cuda_slice(name: str, chip: Chip, axes: Mapping[str, int]) -> Slice:
    """Cards that are connected alike, on one host."""
    from jax.experimental import topologies

    if not any(find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)):
        raise InputError(
            f"--topology {name} needs XLA for CUDA: pip install "
            f"jax-cuda13-plugin=={jax.__version__} jax-cuda13-pjrt=={jax.__version__} "
            "nvidia-cuda-nvcc"
        )
    count = name.partition(":")[2]
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            topology_name=name,
            target_config=H100,
            topology=f"1x1x{count}",
        )
    except Exception as error:  # of the plugin's, which has no kinds of its own
        raise InputError(f"--topology {name}: XLA says {first_line(error)}") from None
    devices = topology.devices
    grid = np.array(devices).reshape(*axes.values())
    return Slice(name, chip, devices, Mesh(grid, tuple(axes)))


def first_line(error: Exception) -> str:
    """The first line of a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
