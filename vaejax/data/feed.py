"""Which examples a step sees: a pure function of (seed, step).

A feed gives, for a range of steps, a pytree `xs` stacked over steps, and `select`,
which turns one step's slice of it into a raw batch on the device. Data that fits on the
device lives there whole, and `xs` is an index array; data that streams gives the
batches themselves, and the identity as `select`. The step does not know the difference.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.types import Array, Batch


class Feed(NamedTuple):
    """`take(start, stop)` gives `xs`; `select(resident, x)` one raw batch of it.

    `one` has the shapes and dtypes of such a slice, so that a step can be traced before
    any. `most` is the number of steps that may be taken at once. `ready()` is False
    where `take` would have to wait for data; `close()` ends what works ahead.
    """

    resident: Any
    take: Callable[[int, int], Any]
    select: Callable[[Any, Any], Batch]
    one: Any
    most: int = sys.maxsize
    ready: Callable[[], bool] = lambda: True
    close: Callable[[], None] = lambda: None


class Order(Protocol):
    """Which examples each step sees."""

    def rows(self, step: int) -> np.ndarray:
        """Their places in the split, int32 `[batch_size]`."""
        ...


class Shuffled:
    """Examples without replacement in each epoch, whose rest is dropped."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self._fields = size, batch_size, seed
        self._epoch = functools.lru_cache(2)(functools.partial(permutation, size, seed))

    def __reduce__(self) -> Any:
        return Shuffled, self._fields

    def rows(self, step: int) -> np.ndarray:
        """Places in the split, int32 `[batch_size]`."""
        size, batch_size, _ = self._fields
        epoch, number = divmod(step, size // batch_size)
        return self._epoch(epoch)[number * batch_size : (number + 1) * batch_size]


class Stored:
    """Examples as they are stored, the same batches in each epoch, without the rest."""

    def __init__(self, size: int, batch_size: int, seed: int = 0) -> None:
        del seed
        self._fields = size, batch_size

    def __reduce__(self) -> Any:
        return Stored, self._fields

    def rows(self, step: int) -> np.ndarray:
        """Places in the split, int32 `[batch_size]`."""
        size, batch_size = self._fields
        start = step % (size // batch_size) * batch_size
        return np.arange(start, start + batch_size, dtype=np.int32)


class Sequential(NamedTuple):
    """Every example once, in order; the last batch is filled up with example 0."""

    size: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Batches."""
        return -(-self.size // self.batch_size)

    def _places(self, step: int) -> np.ndarray:
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def rows(self, step: int) -> np.ndarray:
        """Places in the split, int32 `[batch_size]`."""
        places = self._places(step)
        return np.where(places < self.size, places, 0).astype(np.int32)

    def weight(self, step: int) -> np.ndarray:
        """1 for examples and 0 for what fills up, float32 `[batch_size]`."""
        return (self._places(step) < self.size).astype(np.float32)


def resident_feed(arrays: dict[str, np.ndarray], batch_size: int, seed: int) -> Feed:
    """All examples on the device, drawn without replacement in each epoch."""
    return ordered_feed(arrays, Shuffled(len(arrays["x"]), batch_size, seed))


def ordered_feed(arrays: dict[str, np.ndarray], order: Order) -> Feed:
    """All examples on the device, in an order."""

    def take(start: int, stop: int) -> np.ndarray:
        return np.stack([order.rows(step) for step in range(start, stop)])

    one = jax.ShapeDtypeStruct(order.rows(0).shape, np.int32)
    return Feed(resident=arrays, take=take, select=gather_batch, one=one)


def permutation(size: int, seed: int, epoch: int, stream: int = 0) -> np.ndarray:
    """The order of an epoch, the same on every machine and number of devices.

    Streams are independent of each other; 1 is that of augmentation.
    """
    philox = np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, stream])
    rng = np.random.Generator(philox)
    return rng.permutation(size).astype(np.int32)


def gather_batch(resident: dict[str, Array], index: Array) -> Batch:
    """The raw batch of the examples `index`; their place in the split rides along."""
    return {name: a[index] for name, a in resident.items()} | {"index": index}


def with_weight(raw: Batch, weight: Array) -> Batch:
    """The batch with `weight`, 0 for padding."""
    return {**raw, "weight": jnp.asarray(weight)}
