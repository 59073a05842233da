"""Runs that older versions wrote: what they lack, and what that stood for.

The first version counted no batches of its running averages, whose start weighed on:
with a mass of 1 they go on, and evaluate, as they did.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

GAINED: Mapping[str, float] = {"mass": 1.0}
"""Entries of dictionaries in a state that older ones lack, and their values there."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {"wgan_gp": {"beta2": 0.999}}
"""By preset, settings that its older runs do not record, where today's default is not
what they did.
"""

DROPPED: Mapping[str, tuple[str, ...]] = {"classifier": ("latents",)}
"""By preset, settings that older runs record and that never had an effect."""


def older_structure(stored: Mapping[str, Any], abstract: Any) -> Any:
    """`abstract` without gained entries, where `stored` leaves have none of these."""
    ends = tuple(f"['{name}']" for name in GAINED)
    if any(leaf.endswith(ends) for leaf in stored):
        return abstract
    return without_gained(abstract)


def without_gained(tree: Any) -> Any:
    """The tree without the gained entries of its dictionaries."""
    return jax.tree.map(
        lambda part: (
            {n: without_gained(v) for n, v in part.items() if n not in GAINED}
            if isinstance(part, dict)
            else part
        ),
        tree,
        is_leaf=lambda part: isinstance(part, dict),
    )


def filled(state: Any, abstract: Any) -> Any:
    """The restored state, shaped like `abstract`: with what it lacks, filled in."""
    paths, shape = jax.tree_util.tree_flatten_with_path(abstract)
    found = dict(jax.tree_util.tree_leaves_with_path(state))
    leaves = [
        found[path] if path in found else constant_like(GAINED[path[-1].key], leaf)
        for path, leaf in paths
    ]
    return jax.tree.unflatten(shape, leaves)


def constant_like(value: float, leaf: Any) -> jax.Array:
    """An array of one value, shaped and placed like `leaf`."""
    whole = np.full(leaf.shape, value, leaf.dtype)
    if leaf.sharding is None:
        return jax.numpy.asarray(whole)
    return jax.make_array_from_callback(whole.shape, leaf.sharding, whole.__getitem__)
