"""The training step of an experiment, compiled for devices that are not here.

Nothing is allocated, and of the data only its `Spec` is read: states, examples and
indices are shapes. What is compiled is what the loop runs, an interval of steps as one
program; XLA counts the body of its loop once, so that all figures are of one step.
"""

import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.stages import Lowered

from vaejax import parallel
from vaejax.aot import hlo, roofline
from vaejax.aot.chips import GIB, Chip
from vaejax.aot.roofline import Times
from vaejax.data import Spec
from vaejax.data.feed import Feed, resident_feed
from vaejax.data.preprocess import blank
from vaejax.data.streaming import as_it_is
from vaejax.errors import InputError
from vaejax.experiment import Experiment

Build = Callable[[Experiment, Feed, Mesh], Any]
"""A compiled function of (state, resident, xs, root), of which `lower` is asked."""
UNITS = {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


class NoRoom(Exception):
    """A program needs more memory than a device has."""

    def __init__(self, needed: float, available: float) -> None:
        super().__init__(needed, available)
        self.needed, self.available = needed, available


class Memory(NamedTuple):
    """Bytes on each device."""

    arguments: int
    outputs: int
    donated: int
    """Bytes of outputs that take the place of donated arguments."""
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.donated + sum(self[3:])


class Program(NamedTuple):
    """The result of one compilation: figures of one device and one step."""

    part: int
    seconds: float
    flops: float | None
    accessed: float | None
    """Bytes; None, like the FLOPs, where the compiler does not count them (CUDA's)."""
    memory: Memory
    collectives: list[hlo.Collective]
    aliased: set[int]
    loops: int
    """Loops inside a step, whose bodies XLA counts once, however often they run."""

    def times(self, chip: Chip, sent: float = 0.0, passes: int = 1) -> Times | None:
        """The roofline's; None where the work is not known.

        Args:
          chip: what runs it.
          sent: bytes that a device sends.
          passes: how often the chip does the FLOPs that XLA counts.
        """
        if self.flops is None or self.accessed is None or self.loops:
            return None
        return roofline.times(chip, passes * self.flops, self.accessed, sent)


def scan(experiment: Experiment, feed: Feed, mesh: Mesh) -> Any:
    """The steps of an interval, as accelerators run them.

    (A CPU runs convolutions step by step; `parallel.compile_steps` asks for the backend
    that is here, and so is not called.)
    """
    mode = experiment.training.parallel
    if mode == "pmap":
        raise InputError(
            "--parallel pmap compiles for devices that are here: check shard_map, "
            "which computes the same"
        )
    move = parallel.traced_move(experiment, feed, mesh)
    return parallel.compile_scan(
        move, mesh, mode, parallel.state_layout(experiment, mesh)
    )


def compile_for(experiment: Experiment, build: Build, mesh: Mesh, part: int) -> Program:
    """Compiles with `part` examples for each device of the mesh; NoRoom, InputError."""
    batch = part * mesh.size
    feed = abstract_feed(experiment.dataset.spec, batch)
    lowered = build(experiment, feed, mesh).lower(*arguments(experiment, mesh, batch))
    # A loop of one step is none.
    return compiled(lowered, part, min(1, steps_per_program(experiment, batch) - 1))


def compiled(lowered: Lowered, part: int, outer: int = 0) -> Program:
    """Compiles what was lowered for `part` examples of a device, of whose loops `outer`
    are no part of a step; NoRoom.
    """
    began = time.perf_counter()
    try:
        made = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise no_room(str(error)) or error from None
    seconds = time.perf_counter() - began
    text, cost = made.as_text() or "", made.cost_analysis() or {}
    sizes: Any = made.memory_analysis()  # every compiler that is asked has one
    memory = Memory(
        sizes.argument_size_in_bytes,
        sizes.output_size_in_bytes,
        sizes.alias_size_in_bytes,
        sizes.temp_size_in_bytes,
        sizes.generated_code_size_in_bytes,
    )
    return Program(
        part=part,
        seconds=seconds,
        flops=cost.get("flops"),
        accessed=cost.get("bytes accessed"),
        memory=memory,
        collectives=hlo.collectives(text),
        aliased=hlo.aliased(text),
        loops=max(0, hlo.loops(text) - outer),
    )


def no_room(message: str) -> NoRoom | None:
    """From XLA's words, as in `(96.45G) exceeds available HBM (15.75G)`."""
    if "RESOURCE_EXHAUSTED" not in message or "hbm" not in message.lower():
        return None
    sizes = [
        float(number) * UNITS[unit]
        for number, unit in re.findall(r"\b(\d+(?:\.\d+)?)([KMGT])\b", message)
    ]
    available = re.search(
        r"(?:available HBM \(|of )(\d+(?:\.\d+)?)([KMGT])\b", message, re.IGNORECASE
    )
    if not sizes or not available:
        return NoRoom(math.inf, math.inf)
    return NoRoom(max(sizes), float(available[1]) * UNITS[available[2].upper()])


def arguments(experiment: Experiment, mesh: Mesh, batch: int) -> tuple[Any, ...]:
    """Shapes and placement of what the compiled steps are called with."""
    spec, steps = experiment.dataset.spec, steps_per_program(experiment, batch)
    if spec.streams:
        one = jax.eval_shape(lambda: blank(spec, batch))
        xs = {n: jax.ShapeDtypeStruct((1, *a.shape), a.dtype) for n, a in one.items()}
    else:
        xs = jax.ShapeDtypeStruct((steps, batch), jnp.int32)
    whole, split = parallel.replicated(mesh), parallel.rows(mesh, axis=1)
    return (
        parallel.abstract_state(experiment, mesh),
        placed(examples_of(spec), whole),
        placed(xs, split),
        placed(jax.eval_shape(lambda: jax.random.key(0)), whole),
    )


def placed(tree: Any, sharding: NamedSharding) -> Any:
    """Shapes with a placement."""
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree
    )


def steps_per_program(experiment: Experiment, batch: int) -> int:
    """Steps that are one program: those between two lines of the log."""
    spec, every = experiment.dataset.spec, experiment.training.log_every
    return 1 if spec.streams else every or spec.sizes["train"] // batch


def abstract_feed(spec: Spec, batch: int) -> Feed:
    """How a step is given its batch; nothing is taken from it."""
    if spec.streams:
        one = jax.eval_shape(lambda: blank(spec, batch))
        return Feed({}, lambda start, stop: None, as_it_is, one)
    return resident_feed(examples_of(spec), batch, seed=0)


def examples_of(spec: Spec) -> dict[str, Any]:
    """Shapes of the training split, as it lies on a device; none where it streams."""
    if spec.streams:
        return {}
    raw = jax.eval_shape(lambda: blank(spec, spec.sizes["train"]))
    return {name: a for name, a in raw.items() if name != "index"}


def held_bytes(a: Any) -> int:
    """Bytes of an abstract array on each device."""
    return math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize
