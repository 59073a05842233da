"""Versions and devices that a run is computed with."""

import functools
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


@functools.cache
def source() -> Mapping[str, str]:
    """Commit and state of the checkout that vaejax is run from; empty without one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, perhaps below a checkout of another
        return MappingProxyType({})

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        return done.stdout.strip()

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    except (OSError, subprocess.SubprocessError):  # no git, or not this user's checkout
        return MappingProxyType({})
    return MappingProxyType(
        {"commit": commit, "tree": "changed" if changes else "clean"}
    )


def environment(mesh: Mesh) -> dict[str, str]:
    """Versions, the source, the system, and the devices that train, each as words."""
    machine = {"system": f"{platform.system()} {platform.machine()}"}
    hosts = {"hosts": str(jax.process_count())}
    return {**versions(), **source(), **machine, "devices": device_words(mesh), **hosts}


def device_words(mesh: Mesh) -> str:
    """As in `2 x NVIDIA H100`."""
    devices = mesh.devices.flatten()
    return f"{len(devices)} x {devices[0].device_kind}"
