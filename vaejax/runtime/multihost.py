"""Hosts: processes that train one run together, each with devices of its own.

All hosts run the same program; what they decide (to start, to stop) they decide
together, or they would wait for each other for ever. Alone, a host decides by itself
and nothing here costs anything.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vaejax.errors import InputError
from vaejax.runtime.preemption import Interrupts


def join(
    coordinator: str | None = None,
    hosts: int | None = None,
    host: int | None = None,
    heartbeat: int = 100,
) -> None:
    """Joins the other hosts; must come before JAX's first use of a device.

    On TPU VMs, Slurm and Kubernetes nothing need be given. When a host dies or is
    silent for `heartbeat` seconds, JAX ends all the others with a message: the same
    command, started on all again, goes on from the last checkpoint.

    Args:
      coordinator: address and port of host 0, where the hosts meet.
      hosts: how many there are.
      host: the number of this one, from 0.
      heartbeat: seconds.

    Raises:
      InputError: some of the three but not all, or the hosts do not meet.
    """
    given = (coordinator, hosts, host)
    if any(v is None for v in given) and any(v is not None for v in given):
        raise InputError(
            "--coordinator, --hosts and --host go together; on TPU VMs, Slurm and "
            "Kubernetes none is needed"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InputError(f"--coordinator {coordinator}: give ADDRESS:PORT of host 0")
    if hosts is not None and not 0 <= (host or 0) < hosts:
        raise InputError(f"--host {host}: {hosts} hosts are 0 to {hosts - 1}")
    try:
        jax.distributed.initialize(
            coordinator, hosts, host, heartbeat_timeout_seconds=heartbeat
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the hosts did not meet: {reason}. Start the same command on all of them; "
            "where JAX cannot tell who they are, give --coordinator, --hosts and --host"
        ) from None


def alone() -> bool:
    """Whether there is no other host."""
    return jax.process_count() == 1


def first() -> bool:
    """Whether this is the host that writes."""
    return jax.process_index() == 0


def gathered(value: Any) -> np.ndarray:
    """A number of each host, `[hosts]`, on all of them."""
    if alone():
        return np.asarray(value)[None]
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(np.asarray(value)))


def gathered_array(array: Any) -> np.ndarray:
    """An array of which this host may hold a part, whole."""
    ours = not isinstance(array, jax.Array) or array.is_fully_addressable
    if ours or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(array, tiled=True))


def gathered_texts(text: str) -> list[str]:
    """A text of each host, on all of them."""
    raw = np.frombuffer(text.encode(), np.uint8)
    length = int(gathered(len(raw)).max())
    rows = gathered(np.pad(raw, (0, length - len(raw))))
    return [bytes(row).rstrip(b"\0").decode() for row in rows]


def in_turn(function: Callable[[], None]) -> None:
    """`function()` on the first host, then on the others.

    What goes wrong on one host ends all of them: InputError.
    """
    if alone():
        return function()
    mine: InputError | OSError | None = None
    for turn in (True, False):
        if first() == turn:
            try:
                function()
            except (InputError, OSError) as error:
                mine = error
        failed = gathered(mine is not None)
        if mine is not None:
            raise mine
        if failed.any():
            raise InputError(f"host {int(failed.argmax())} cannot go on: see its error")
    return None


def same(config: dict[str, Any], differences: Callable[..., list[str]]) -> None:
    """InputError on all hosts where one was started with another configuration."""
    if alone():
        return
    configs = [json.loads(text) for text in gathered_texts(json.dumps(config))]
    for number, other in enumerate(configs):
        differing = differences(other, configs[0])
        if differing:
            raise InputError(
                f"host {number} has another configuration than host 0: "
                f"{'; '.join(differing)}. Give the same command on all hosts"
            )


def came(interrupts: Interrupts) -> bool:
    """Whether any host was told to stop; then all are."""
    signum = int(gathered(interrupts.signum or 0).max())
    if signum:
        interrupts.signum = signum
    return bool(signum)
