"""TFDS builders of the sets which installed packages ship: no network, no TensorFlow.

A set is a module with its name. The builders themselves are imported only to prepare
a set.
"""

import pkgutil
from collections.abc import Mapping

REVISED: Mapping[str, str] = {}
"""Versions of the sets that are no longer at their first, 1.0.0."""

VERSIONS: Mapping[str, str] = {
    module.name: REVISED.get(module.name, "1.0.0")
    for module in pkgutil.iter_modules(__path__)
    if not module.name.startswith("_")
}
"""Our sets, and the version of each that this library prepares."""
