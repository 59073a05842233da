"""Versions and devices that a run is computed with."""

import functools
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

import jax
from jax.sharding import Mesh

PACKAGES = ("vaejax", "jax", "jaxlib", "flax", "numpyro", "optax", "numpy")


@functools.cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that numbers depend on, if installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree that is not installed
            continue
    return MappingProxyType(found)


def environment(mesh: Mesh) -> dict[str, str]:
    """Versions, the system, and the devices that train, each as words."""
    machine = {"system": f"{platform.system()} {platform.machine()}"}
    hosts = {"hosts": str(jax.process_count())}
    return {**versions(), **machine, "devices": device_words(mesh), **hosts}


def device_words(mesh: Mesh) -> str:
    """As in `2 x NVIDIA H100`."""
    devices = mesh.devices.flatten()
    return f"{len(devices)} x {devices[0].device_kind}"
