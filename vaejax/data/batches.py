"""The raw batch of a step, decoded: what workers do, a pure function of the step."""

import dataclasses

import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.data.examples import Examples, Notes
from vaejax.data.feed import Order
from vaejax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One host's rows of a raw batch, and what is to be said of corrupt records in it.

    No tuple, whose arrays grain would send through shared memory: containers have
    little of that, and some is left over when workers are stopped.
    """

    arrays: Arrays
    notes: Notes


@dataclasses.dataclass(frozen=True)
class Batches:
    """The rows `own` of each step's batch, which are those that one host needs.

    Small, and can be sent to other processes. With a `seed` examples are augmented.
    """

    examples: Examples
    order: Order
    own: np.ndarray
    seed: int | None = None

    def __call__(self, step: int) -> Decoded | InputError:
        """The batch of a step.

        The error of a record that cannot be decoded is returned: raised in a worker it
        would reach the main process in the clothes of the worker's library.
        """
        rows = self.order.rows(step)
        noise = None
        if self.seed is not None:
            noise = augmentation_uniforms(self.seed, step, len(rows))[self.own]
        try:
            arrays, notes = self.examples.read(rows[self.own], noise)
        except InputError as error:
            return error
        return Decoded(arrays | {"index": rows[self.own]}, notes)


def augmentation_uniforms(seed: int, step: int, count: int) -> np.ndarray:
    """Numbers to augment each example of a batch with, `[count, 3]` on [0, 1)."""
    # The counter sets them apart from the orders of epochs, whose keys are such, too.
    generator = np.random.Philox(key=[seed, step], counter=[0, 0, 0, 1])
    raw = generator.random_raw(count * 3)
    return (raw >> np.uint64(11)).reshape(-1, 3) / 2.0**53
