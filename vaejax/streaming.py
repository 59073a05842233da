"""Batches that stream onto the devices: decoded by workers, two of them ahead.

Threads of this process decode or, where they are given, processes of their own. All
that they do is a pure function of the step, so there is nothing of them to save.
"""

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vaejax.data.dataset import Arrays
from vaejax.data.examples import Notes, Said
from vaejax.data.feed import Batches

AHEAD = 2
"""Batches on the devices beside the one that is used."""


class Stream:
    """The raw batches from step `start` to `stop`, in turn, parted over the mesh.

    `waited` is the time in seconds for which nothing ran for want of a batch; the first
    is not counted, since workers start while the first step is compiled.
    """

    def __init__(
        self, batches: Batches, start: int, stop: int, mesh: Mesh, workers: int = 0
    ) -> None:
        self.waited, self._first = 0.0, True
        self._said, self._ends = Said(), threading.Event()
        # One more is in the hands of the thread.
        self._ready: queue.Queue[Any] = queue.Queue(AHEAD - 1)
        self._thread = threading.Thread(
            target=self._fill, args=(batches, start, stop, mesh, workers), daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ends.set()
        self._thread.join()

    def _fill(
        self, batches: Batches, start: int, stop: int, mesh: Mesh, workers: int
    ) -> None:
        """Places batches on the devices until the end; an error takes the last place."""
        try:
            with decoded(batches, start, stop, workers) as source:
                for arrays, notes in source:
                    self._offer((placed(arrays, mesh), notes))
                    if self._ends.is_set():
                        break
        except BaseException as error:  # for the thread that takes batches to raise
            self._offer(error)

    def _offer(self, item: Any) -> None:
        while not self._ends.is_set():
            with contextlib.suppress(queue.Full):
                return self._ready.put(item, timeout=0.1)

    def next(self, running: Any = None) -> dict[str, jax.Array]:
        """The next batch; `running` is what the devices work at meanwhile.

        Raises what went wrong in a worker.
        """
        try:
            item = self._ready.get_nowait()
        except queue.Empty:
            # While something runs, it is not the data that is waited for.
            jax.block_until_ready(running)
            began = time.perf_counter()
            item = self._ready.get()
            if not self._first:
                self.waited += time.perf_counter() - began
        self._first = False
        if isinstance(item, BaseException):
            raise item
        batch, notes = item
        self._said.say(notes)
        return batch


@contextlib.contextmanager
def decoded(
    batches: Batches, start: int, stop: int, workers: int
) -> Iterator[Iterator[tuple[Arrays, Notes]]]:
    """What `batches` gives for each step, by workers that end with the context."""
    import grain  # not needed where nothing streams

    steps = grain.MapDataset.range(start, stop).map(batches)
    if workers:
        alone = steps.to_iter_dataset(grain.ReadOptions(0, 0))
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=1)
        found = iter(alone.mp_prefetch(options, worker_init_fn=attend))
    else:
        threads = cores()
        found = iter(steps.to_iter_dataset(grain.ReadOptions(threads, threads)))
    try:
        yield found
    finally:
        found.close()


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

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    assert main is not None

    def wait() -> None:
        main.join()
        os._exit(1)  # the worker may be waiting for room that nobody will make

    threading.Thread(target=wait, daemon=True).start()


def placed(arrays: Arrays, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch, as the whole batch over the mesh."""
    sharding = NamedSharding(mesh, P("data"))
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in arrays.items()
    }


def own_part(mesh: Mesh, batch_size: int) -> slice:
    """The rows of a batch that this host's devices need."""
    sharding = NamedSharding(mesh, P("data"))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    rows = [range(batch_size)[part[0]] for part in parts if part is not None]
    return slice(min(r.start for r in rows), max(r.stop for r in rows))
