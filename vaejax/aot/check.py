"""The training step of an experiment, compiled for devices that are not here.

Nothing is allocated, and of the data only its `Spec` is read: states, examples and
indices are shapes. What is compiled is what the loop runs, an interval of steps as one
program; XLA counts the body of its loop once, so that all figures are of one step.
"""

import math
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from vaejax import parallel
from vaejax.aot import hlo, roofline
from vaejax.aot.chips import GIB
from vaejax.aot.roofline import Need, Times
from vaejax.aot.topology import Slice
from vaejax.data import Spec
from vaejax.data.feed import Feed, resident_feed
from vaejax.data.preprocess import blank
from vaejax.errors import InputError
from vaejax.experiment import Experiment

Build = Callable[[Experiment, Feed, Mesh], Any]
"""A compiled function of (state, resident, xs, root), of which `lower` is asked."""
UNITS = {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
SEVERAL = 8  # parts of the batch on one device, which the split is judged against


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
    """Of the outputs, what is in the arguments' place."""
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.donated + sum(self[3:])


class Program(NamedTuple):
    """What one compilation came to: figures of one device and one step."""

    part: int
    seconds: float
    flops: float | None
    accessed: float | None
    """Bytes; None, like the FLOPs, where the compiler does not count them (CUDA's)."""
    memory: Memory
    collectives: list[hlo.Collective]
    aliased: set[int]


class Report(NamedTuple):
    """What is known of an experiment on a slice; bytes and FLOPs of one device."""

    place: Slice
    batch: int
    steps: int
    parameters: int
    state: int
    """Bytes of the state."""
    donated: int
    """Bytes of the state whose memory the next state takes."""
    program: Program | None
    """None where it does not fit."""
    gradients: int
    """All-reduces that carry gradients."""
    share: tuple[float, float] | None
    """A device's work, of that of several devices: as compiled, and of an even split;
    None where nothing could be compared."""
    largest: int
    """Batch that fits, as was confirmed; 0 where none was found."""
    needs: list[Need]
    problems: list[str]

    @property
    def sent(self) -> float:
        """Bytes that a device sends in a step."""
        found = self.program.collectives if self.program else []
        return sum(each.sent(len(self.place.devices)) for each in found)

    @property
    def times(self) -> Times | None:
        """The roofline's."""
        made = self.program
        if made is None or made.flops is None or made.accessed is None:
            return None
        return roofline.times(self.place.chip, made.flops, made.accessed, self.sent)


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
    move = parallel.traced_move(experiment, feed)
    return parallel.compile_scan(move, mesh, mode)


def check(experiment: Experiment, place: Slice, build: Build = scan) -> Report:
    """Compiles for the slice, for one of its devices, and for a larger batch."""
    batch, count = experiment.training.batch_size, len(place.devices)
    check_divides(batch, place)
    compiled = partial(compile_for, experiment, build, place)
    part, room = batch // count, place.chip.memory
    program = reference = None
    try:
        program = compiled(place.mesh, part)
        first = need_of(program, room)
    except NoRoom as lack:
        first = Need(part, lack.needed, False)
        room = min(room, lack.available)
    if program and program.flops and count > 1:
        reference = reference_program(compiled, place, part)
    hint = need_of(reference, room) if reference else None

    def need(part: int) -> Need:
        try:
            return need_of(compiled(place.mesh, part), room)
        except NoRoom as lack:
            return Need(part, lack.needed, False)

    cap = experiment.dataset.spec.sizes["train"] // count
    best, needs = roofline.largest(need, first, room, cap, hint)
    return reported(experiment, place, program, reference, best * count, needs)


def check_divides(batch: int, place: Slice) -> None:
    """InputError where the devices would have unequal parts."""
    count = len(place.devices)
    if batch % count:
        below, above = batch // count * count, -(-batch // count) * count
        choices = f"{below} or {above}" if below else f"{above}"
        raise InputError(
            f"--batch-size {batch} is of the whole slice and does not divide over the "
            f"{count} devices of {place.name}: choose {choices}"
        )


def reference_program(
    compiled: Callable[[Mesh, int], Program], place: Slice, part: int
) -> Program | None:
    """Several devices' parts on one device; None where it has no room for two."""
    for several in (min(SEVERAL, len(place.devices)), 2):
        try:
            return compiled(place.single, several * part)
        except NoRoom:
            continue
    return None


def need_of(program: Program, room: float) -> Need:
    """CUDA's compiler does not mind the size of a memory, so it is compared here."""
    total = program.memory.total
    return Need(program.part, total, total <= room)


def reported(
    experiment: Experiment,
    place: Slice,
    program: Program | None,
    reference: Program | None,
    largest: int,
    needs: list[Need],
) -> Report:
    """The figures together, and what is wrong with them."""
    state = parallel.abstract_state(experiment, place.mesh)
    leaves, params = jax.tree.leaves(state), jax.tree.leaves(state.params)
    kept = program.aliased if program else set()
    share = None
    if program and program.flops and reference and reference.flops:
        share = program.flops / reference.flops, program.part / reference.part
    weights = {a.size for a in params if a.ndim > 1}
    report = Report(
        place=place,
        batch=experiment.training.batch_size,
        steps=steps_of(experiment, experiment.training.batch_size),
        parameters=sum(a.size for a in params),
        state=sum(nbytes(a) for a in leaves),
        donated=sum(nbytes(a) for n, a in enumerate(leaves) if n in kept),
        program=program,
        gradients=hlo.of_weights(program.collectives if program else [], weights),
        share=share,
        largest=largest,
        needs=needs,
        problems=[],
    )
    return report._replace(problems=problems(report))


def problems(report: Report) -> list[str]:
    """What must be mended, a sentence each."""
    found, count = [], len(report.place.devices)
    first = report.needs[0]
    if not first.fits:
        fitting = f"--batch-size {report.largest} fits" if report.largest else ""
        found.append(
            f"it does not fit: a device needs {first.needed / GIB:.2f} GiB of the "
            f"{report.place.chip.memory / GIB:.4g} GiB it has; "
            + (fitting or "no batch was found that fits")
        )
    if report.program is None:
        return found
    if count > 1 and not report.program.collectives:
        found.append(
            f"it is not data-parallel: {count} devices exchange nothing, so each "
            "computes the whole batch"
        )
    elif report.share and report.share[0] > (1 + report.share[1]) / 2:
        found.append(
            f"the data is not split: a device does {report.share[0]:.2f} of the work "
            f"of {1 / report.share[1]:.0f} devices"
        )
    if report.donated < report.state:
        found.append("the state is not donated: its memory is needed twice")
    return found


def compile_for(
    experiment: Experiment, build: Build, place: Slice, mesh: Mesh, part: int
) -> Program:
    """Compiles with `part` examples for each device of the mesh; NoRoom, InputError."""
    batch = part * mesh.size
    examples = examples_of(experiment.dataset.spec)
    feed = resident_feed(examples, batch, experiment.training.seed)
    lowered = build(experiment, feed, mesh).lower(*arguments(experiment, mesh, batch))
    began = time.perf_counter()
    try:
        made = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise no_room(str(error)) or error from None
    seconds = time.perf_counter() - began
    text, sizes = made.as_text(), made.memory_analysis()
    cost = made.cost_analysis() or {}
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
    whole = parallel.replicated(mesh)
    place = partial(jax.ShapeDtypeStruct, sharding=whole)
    examples = {
        name: place(a.shape, a.dtype)
        for name, a in examples_of(experiment.dataset.spec).items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    xs = jax.ShapeDtypeStruct(
        (steps_of(experiment, batch), batch),
        jnp.int32,
        sharding=NamedSharding(mesh, parallel.STEPS),
    )
    state = parallel.abstract_state(experiment, mesh)
    return state, examples, xs, place(key.shape, key.dtype)


def steps_of(experiment: Experiment, batch: int) -> int:
    """Steps between two lines of the log, which are one program."""
    size, every = experiment.dataset.spec.sizes["train"], experiment.training.log_every
    return every or size // batch


def examples_of(spec: Spec) -> dict[str, Any]:
    """Shapes of the training split, as it lies on a device."""
    raw = jax.eval_shape(lambda: blank(spec, spec.sizes["train"]))
    return {name: a for name, a in raw.items() if name != "index"}


def nbytes(a: Any) -> int:
    """Bytes of an abstract array."""
    return math.prod(a.shape) * a.dtype.itemsize
