"""Batches that stream onto the devices: decoded by workers, two of them ahead.

Threads of this process decode or, where they are asked for, processes of their own. All
that they do is a pure function of the step, so there is nothing of them to save.
"""

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from vaejax import parallel
from vaejax.data import Dataset
from vaejax.data.batches import Batches, Decoded
from vaejax.data.examples import Notes, Warned
from vaejax.data.feed import Feed, Order, ordered_feed
from vaejax.data.preprocess import blank
from vaejax.data.quiet import one_line
from vaejax.errors import InputError
from vaejax.runtime.preemption import SIGNALS
from vaejax.types import Batch

AHEAD = 2
"""Batches on the devices beside the one that is used."""
MOST_THREADS = 16
"""Beyond so many they wait for each other more than they decode."""

Placed = tuple[dict[str, jax.Array], Notes] | BaseException


def feed_of(
    dataset: Dataset,
    split: str,
    order: Order,
    steps: int,
    mesh: Mesh,
    workers: int = 0,
    augment: int | None = None,
) -> Feed:
    """The feed of a split, whose examples are on the devices or stream onto them.

    Args:
      order: which examples each step sees.
      steps: how many there are in all: nothing is decoded beyond.
      workers: processes that decode; 0 is threads of this one.
      augment: the seed of augmentation, None for none.
    """
    if not dataset.spec.streams:
        return ordered_feed(dataset.split(split), order)
    rows = parallel.rows(mesh)
    size = len(order.rows(0))
    one = jax.eval_shape(partial(blank, dataset.spec, size))
    own = own_rows(rows, size)
    batches = Batches(dataset.examples(split), order, own, augment)
    stream = Stream(batches, steps, parallel.rows(mesh, 1), workers)
    return Feed({}, stream.take, as_it_is, one, 1, stream.ready, stream.close)


def as_it_is(resident: Any, x: Batch) -> Batch:
    """The raw batch, which is there already."""
    return x


def own_rows(sharding: NamedSharding, batch_size: int) -> np.ndarray:
    """The rows of a batch, in order, that this host's devices need."""
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    every = np.arange(batch_size)
    return np.unique(np.concatenate([every[part] for part in parts if part]))


class Stream:
    """The raw batches of steps below `steps`, `[1, batch, ...]`, split over the mesh.

    `batches(step)` gives the rows of this host. A step that is not the next one can be
    taken, too: workers then start over from there.
    """

    def __init__(
        self,
        batches: Batches,
        steps: int,
        sharding: NamedSharding,
        workers: int = 0,
    ) -> None:
        self._batches, self._steps, self._workers = batches, steps, workers
        self._sharding, self._warned = sharding, Warned()
        self._ahead: Ahead | None = None
        self._next = 0

    def ready(self) -> bool:
        """Whether the next batch is there; True, too, before the first is taken.

        Starting workers is not what a steady stream would wait for.
        """
        return self._ahead is None or self._ahead.ready()

    def take(self, start: int, stop: int) -> dict[str, jax.Array]:
        """The batch of step `start`, the only one of the range.

        Raises what went wrong in a worker.
        """
        assert stop == start + 1
        if self._ahead is None or start != self._next:
            self.close()
            self._ahead = Ahead(self._produce, start)
        placed = self._ahead.take()
        self._next = stop
        if isinstance(placed, BaseException):
            self.close()
            raise placed
        if stop == self._steps:
            self.close()
        batch, notes = placed
        self._warned.warn(notes)
        return batch

    def close(self) -> None:
        """Ends the workers."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None

    @contextlib.contextmanager
    def _produce(self, start: int) -> Iterator[Iterator[Placed]]:
        steps = start, self._steps
        with decoded_batches(self._batches, *steps, self._workers) as found:
            yield (self._placed(each) for each in found)

    def _placed(self, found: Decoded | InputError) -> Placed:
        """This host's rows of a batch, as the whole batch over the mesh."""
        if isinstance(found, InputError):
            return found
        batch = {name: self._array(array) for name, array in found.arrays.items()}
        return batch, found.notes

    def _array(self, mine: np.ndarray) -> jax.Array:
        own = self._batches.own
        count = len(self._batches.order.rows(0))

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # every device has its rows
            first, last, _ = index[1].indices(count)
            start = int(np.searchsorted(own, first))
            return mine[None, start : start + last - first]

        shape = (1, count, *mine.shape[1:])
        return jax.make_array_from_callback(shape, self._sharding, part)


class Ahead:
    """A thread that keeps two batches ready, and workers busy with those after them."""

    def __init__(
        self,
        produce: Callable[[int], contextlib.AbstractContextManager[Iterator[Placed]]],
        start: int,
    ) -> None:
        # One more is in the hands of the thread.
        self._ready: queue.Queue[Placed] = queue.Queue(AHEAD - 1)
        self._ends = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(produce, start), daemon=True
        )
        self._thread.start()

    def ready(self) -> bool:
        """Whether `take` need not wait."""
        return not self._ready.empty()

    def take(self) -> Placed:
        """The next batch, or what went wrong instead."""
        return self._ready.get()

    def close(self) -> None:
        """Ends the thread and its workers."""
        self._ends.set()
        self._thread.join()

    def _fill(
        self,
        produce: Callable[[int], contextlib.AbstractContextManager[Iterator[Placed]]],
        start: int,
    ) -> None:
        try:
            with produce(start) as batches:
                while not self._ends.is_set():
                    self._offer(next(batches))
        except StopIteration:
            pass
        except BaseException as error:  # for the thread that takes batches to raise
            self._offer(error)

    def _offer(self, item: Placed) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=0.1)
                return


@contextlib.contextmanager
def decoded_batches(
    batches: Batches, start: int, stop: int, workers: int
) -> Iterator[Iterator[Decoded | InputError]]:
    """The output of `batches` for each step, by workers that end with the context."""
    import grain  # not needed where nothing streams

    steps = grain.MapDataset.range(start, stop).map(batches)
    if workers:
        parse_flags()
        alone = steps.to_iter_dataset(grain.ReadOptions(0, 0))
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
        found = iter(alone.mp_prefetch(options, worker_init_fn=attend))
    else:
        threads = min(cores(), MOST_THREADS)
        found = iter(steps.to_iter_dataset(grain.ReadOptions(threads, threads)))
    try:
        yield found
    except RuntimeError as error:
        if not workers:
            raise
        raise InputError(
            f"a process that decodes has died ({one_line(error)}): if memory is short, "
            "give fewer --workers"
        ) from error
    finally:
        found.close()


def parse_flags() -> None:
    """Lets grain read its own flags, which it starts processes by, at their defaults.

    Programs that know absl's flags have parsed them before.
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def attend(worker: int, workers: int) -> None:
    """Lets a worker process end with the main process, and not by itself before.

    A signal to all processes of a terminal or a job is for the main process to answer.
    """
    import multiprocessing

    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None

    def wait() -> None:
        main.join()
        os._exit(1)  # the worker may be waiting for room that nobody will make

    threading.Thread(target=wait, daemon=True).start()
