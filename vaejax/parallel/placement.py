"""The mesh of devices, and what of an array each of them holds."""

import contextlib
import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vaejax.errors import InputError
from vaejax.types import Array

DATA, FSDP = "data", "fsdp"
LEAST = 4096  # numbers: below, a gather costs more than the copies that it saves


def make_mesh(devices: int | None, batch_size: int, fsdp: int = 1) -> Mesh:
    """A mesh over the first `devices` (default all) of each host.

    Batches are split over all of its devices. Its axis is `data`; where each `fsdp`
    devices have one copy of the state among them, a second axis, `fsdp`, is theirs.

    Raises:
      InputError: there are not so many devices, or the batch or the devices do not
        divide.
    """
    available = len(jax.local_devices())
    each = available if devices is None else devices
    if not 1 <= each <= available:
        raise InputError(f"--devices {each}: this host has 1 to {available}")
    chosen = [d for host in of_hosts(jax.devices()) for d in host[:each]]
    count = len(chosen)
    if batch_size % count:
        raise InputError(
            f"--batch-size {batch_size} does not divide over {count} devices: "
            "choose a multiple, or fewer --devices"
        )
    shape = axes(count, fsdp)
    types = (AxisType.Auto,) * len(shape)
    return jax.make_mesh(
        tuple(shape.values()), tuple(shape), axis_types=types, devices=chosen
    )


def local_mesh(batch_size: int) -> Mesh:
    """A mesh over as many devices of this host as a batch divides over."""
    here = jax.local_devices()
    count = max(n for n in range(1, len(here) + 1) if batch_size % n == 0)
    return jax.make_mesh(
        (count,), (DATA,), axis_types=(AxisType.Auto,), devices=here[:count]
    )


def axes(count: int, fsdp: int) -> dict[str, int]:
    """The axes of a mesh and their sizes; InputError where `fsdp` does not divide."""
    if count % fsdp:
        raise InputError(f"--fsdp {fsdp} does not divide the {count} devices")
    return {DATA: count} if fsdp == 1 else {DATA: count // fsdp, FSDP: fsdp}


def study_mesh(devices: int | None, replicas: int) -> Mesh:
    """A mesh over as many of the devices as the replicas divide over."""
    here = len(jax.local_devices())
    available = here if devices is None else devices
    if not 1 <= available <= here:
        raise InputError(f"--devices {devices}: this host has 1 to {here}")
    count = max(n for n in range(1, available + 1) if replicas % n == 0)
    return make_mesh(count, count)


def of_hosts(devices: Sequence[Any]) -> list[list[Any]]:
    """The devices of each host."""
    found: dict[int, list[Any]] = {}
    for device in devices:
        found.setdefault(device.process_index, []).append(device)
    return list(found.values())


def device_per_core() -> None:
    """Makes every core of a machine without accelerator a device, for replicas.

    A small step fills no second core, two replicas fill two. Must come before JAX's
    first use; does nothing later, and where JAX_NUM_CPU_DEVICES says otherwise.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, P())


def place(tree: Any, mesh: Mesh) -> Any:
    """Copies a pytree of arrays to every device of the mesh.

    They must be the same on all hosts.
    """
    return put(tree, replicated(mesh))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """A pytree of whole arrays, of which each host keeps what its devices need."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def part(array: Any) -> Array:
        # `device_put` would compare the arrays over the hosts, one by one.
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(part, tree)


def rows(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Every device holds its part of this axis, the one of examples."""
    return NamedSharding(mesh, P(*[None] * axis, mesh.axis_names))


def state_sharding(tree: Any, mesh: Mesh) -> Any:
    """Where the arrays of a state live: whole on all devices, or split over `fsdp`.

    Of an array that is split each device has a part of the longest side that divides.
    """
    return jax.tree.map(lambda a: NamedSharding(mesh, parts(a.shape, mesh)), tree)


def parts(shape: Sequence[int], mesh: Mesh) -> P:
    """The side of an array that is split over `fsdp`, if any is."""
    count = mesh.shape.get(FSDP, 1)
    sides = [0 if side % count else side for side in shape]
    if count == 1 or math.prod(shape) < LEAST or not any(sides):
        return P()
    return P(*[None] * sides.index(max(sides)), FSDP)


def fed(xs: Any, mesh: Mesh, axis: int = 0) -> Any:
    """Arguments of compiled functions, sharded over the mesh: NumPy on one host.

    What is on the devices already stays as it is.
    """
    on_devices = isinstance(jax.tree.leaves(xs)[0], jax.Array)
    if on_devices or not mesh.is_multi_process:
        return xs
    return put(xs, rows(mesh, axis))


def shard_replicas(trees: Sequence[Any], mesh: Mesh) -> Any:
    """Pytrees of replicas stacked, and split over the mesh."""
    return jax.device_put(stack(trees), rows(mesh))


def stack(trees: Sequence[Any], axis: int = 0) -> Any:
    """Pytrees as one, their leaves stacked."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def row(xs: Any, number: int) -> Any:
    """One of a stacked pytree."""
    return jax.tree.map(lambda a: a[number], xs)
