"""Which examples a step sees: a pure function of (seed, step).

A feed gives, for a range of steps, a pytree `xs` stacked over steps, and `select`,
which turns one step's slice of it into a raw batch on the device. Data that fits on the
device lives there whole, and `xs` is an index array; data that streams gives the
batches themselves, and the identity as `select`. The step does not know the difference.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.data.examples import Examples, Notes
from vaejax.types import Array, Batch


class Feed(NamedTuple):
    """`take(start, stop)` gives `xs`; `select(resident, x)` one raw batch of it."""

    resident: Any
    take: Callable[[int, int], Any]
    select: Callable[[Any, Any], Batch]


class Order(NamedTuple):
    """Which examples a step sees: drawn without replacement in each epoch."""

    size: int
    batch_size: int
    seed: int

    def rows(self, step: int) -> np.ndarray:
        """Their places in the split, int32 `[batch_size]`."""
        epoch, number = divmod(step, self.size // self.batch_size)
        start = number * self.batch_size
        order = permutation(self.size, self.seed, epoch)
        return order[start : start + self.batch_size]

    def uniforms(self, step: int) -> np.ndarray:
        """Numbers to augment each of them with, `[batch_size, 3]` on [0, 1)."""
        # The counters of `permutation` begin with other words.
        generator = np.random.Philox(key=[self.seed, step], counter=[0, 0, 0, 1])
        raw = generator.random_raw(self.batch_size * 3)
        return (raw >> np.uint64(11)).reshape(-1, 3) / 2.0**53


class InTurn(NamedTuple):
    """Every example once, in order; the last batch is filled up with example 0."""

    size: int
    batch_size: int

    def rows(self, step: int) -> np.ndarray:
        """The places of one batch in the split, int32 `[batch_size]`."""
        rows = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return np.where(rows < self.size, rows, 0).astype(np.int32)

    def uniforms(self, step: int) -> None:
        """None: nothing is augmented."""


@dataclasses.dataclass(frozen=True)
class Batches:
    """The raw batch of a step, decoded: the part of it that one host needs.

    Small, and can be sent to other processes.
    """

    examples: Examples
    order: Order | InTurn
    part: slice = dataclasses.field(default_factory=lambda: slice(None))

    def __call__(self, step: int) -> tuple[Arrays, Notes]:
        """The batch, and what is to be said of corrupt records in it."""
        rows, u = self.order.rows(step)[self.part], self.order.uniforms(step)
        arrays, notes = self.examples.read(rows, None if u is None else u[self.part])
        return arrays | {"index": rows}, notes


def resident_feed(arrays: dict[str, np.ndarray], batch_size: int, seed: int) -> Feed:
    """All examples on the device, drawn without replacement in each epoch."""
    order = Order(len(arrays["x"]), batch_size, seed)

    def take(start: int, stop: int) -> np.ndarray:
        return np.stack([order.rows(step) for step in range(start, stop)])

    return Feed(resident=arrays, take=take, select=gather)


def stream_feed(batches: Callable[[int], tuple[Arrays, Notes]]) -> Feed:
    """Batches that are decoded when they are taken."""

    def take(start: int, stop: int) -> Arrays:
        steps = [batches(step)[0] for step in range(start, stop)]
        return {key: np.stack([each[key] for each in steps]) for key in steps[0]}

    return Feed(resident={}, take=take, select=as_it_is)


def as_it_is(resident: Any, x: Batch) -> Batch:
    """The raw batch, which is there already."""
    return x


@functools.lru_cache(maxsize=16)
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
