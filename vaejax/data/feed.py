"""Which examples a step sees: a pure function of (seed, step).

A feed gives, for a range of steps, a pytree `xs` stacked over steps, and `select`,
which turns one step's slice of it into a raw batch on the device. Data that fits on the
device lives there whole, and `xs` is an index array; data that streams would give the
batches themselves, and the identity as `select`. The step does not know the difference.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vaejax.types import Array, Batch


class Feed(NamedTuple):
    """`take(start, stop)` gives `xs`; `select(resident, x)` one raw batch of it."""

    resident: Any
    take: Callable[[int, int], Any]
    select: Callable[[Any, Any], Batch]


def resident_feed(arrays: dict[str, np.ndarray], batch_size: int, seed: int) -> Feed:
    """All examples on the device, drawn without replacement in each epoch."""
    size = len(arrays["x"])
    epoch_order = functools.lru_cache(2)(functools.partial(permutation, size, seed))
    per_epoch = size // batch_size

    def row(step: int) -> np.ndarray:
        start = step % per_epoch * batch_size
        return epoch_order(step // per_epoch)[start : start + batch_size]

    def take(start: int, stop: int) -> np.ndarray:
        return np.stack([row(step) for step in range(start, stop)])

    return Feed(resident=arrays, take=take, select=gather)


def permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, the same on every machine and number of devices."""
    rng = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    return rng.permutation(size).astype(np.int32)


def gather(resident: dict[str, Array], index: Array) -> Batch:
    """The raw batch of the examples `index`; their place in the split rides along."""
    return {name: a[index] for name, a in resident.items()} | {"index": index}


def padded_batches(size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every example once, in order: indices and weights `[batches, batch_size]`.

    The last batch is filled up with example 0 at weight 0.
    """
    batches = -(-size // batch_size)
    index = np.arange(batches * batch_size)
    weight = (index < size).astype(np.float32)
    index = np.where(index < size, index, 0).astype(np.int32)
    return index.reshape(batches, -1), weight.reshape(batches, -1)


def weighted(raw: Batch, weight: Array) -> Batch:
    """The batch with `weight`, 0 for padding."""
    return {**raw, "weight": jnp.asarray(weight)}
