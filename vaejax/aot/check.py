"""Whether an experiment's training is sound on a slice, and what it comes to there."""

import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from vaejax import parallel
from vaejax.aot import hlo, roofline
from vaejax.aot.chips import GIB
from vaejax.aot.program import (
    Build,
    NoRoom,
    Program,
    compile_for,
    examples_of,
    held_bytes,
    scan,
    steps_per_program,
)
from vaejax.aot.roofline import Need, Times
from vaejax.aot.topology import Slice
from vaejax.errors import InputError
from vaejax.experiment import Experiment

SEVERAL = 8  # parts of the batch on one device, which the split is judged against


class Report(NamedTuple):
    """The figures of an experiment on a slice; bytes and FLOPs of one device."""

    place: Slice
    batch: int
    examples: int
    """Examples of the training split."""
    data: int
    """Bytes of it on every device; 0 where it streams."""
    steps: int
    parameters: int
    """Numbers, of all devices together."""
    held: int
    """Bytes of the parameters, as far as a device holds them."""
    state: int
    """Bytes of the state, likewise."""
    donated: int
    """Bytes of the state whose memory the next state takes."""
    program: Program | None
    """None where it does not fit."""
    fsdp: int
    """Devices that have one copy of the state among them."""
    players: int
    gradients: list[int]
    """Bytes of each all-reduce of gradients; told where every device has them whole."""
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
        """The roofline's; None where the work of a step is not known."""
        made = self.program
        return made and made.times(self.place.chip, self.sent)


def check(
    experiment: Experiment, place: Slice, build: Build = scan, tries: int = 5
) -> Report:
    """Compiles for the slice, for one of its devices, and for larger batches.

    Of these, `tries` at most.
    """
    batch, count = experiment.training.batch_size, len(place.devices)
    check_divides(batch, place)
    compiled = partial(compile_for, experiment, build)
    part, room = batch // count, place.chip.memory
    program = reference = None
    try:
        program = compiled(place.mesh, part)
        first = need_of(program, room)
    except NoRoom as lack:
        first = Need(part, lack.needed, False)
        room = min(room, lack.available)
    if program and program.flops and count > 1:
        reference = reference_program(compiled, place, program)
    hint = need_of(reference, room) if reference else None

    def need(part: int) -> Need:
        try:
            return need_of(compiled(place.mesh, part), room)
        except NoRoom as lack:
            return Need(part, lack.needed, False)

    cap = experiment.dataset.spec.sizes["train"] // count
    best, needs = roofline.largest(need, first, room, cap, hint, tries)
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
    compiled: Callable[[Mesh, int], Program], place: Slice, program: Program
) -> Program | None:
    """Several devices' parts on one device; None where it has no room for two."""
    for several in (min(SEVERAL, len(place.devices)), 2):
        if several * program.memory.temporaries > place.chip.memory:
            continue
        with contextlib.suppress(NoRoom):
            return compiled(place.single, several * program.part)
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
    examples = examples_of(experiment.dataset.spec)
    state = parallel.abstract_state(experiment, place.mesh)
    leaves, params = jax.tree.leaves(state), jax.tree.leaves(state.params)
    kept = program.aliased if program else set()
    share = None
    if program and program.flops and reference and reference.flops:
        share = program.flops / reference.flops, program.part / reference.part
    exchanged = program.collectives if program else []
    weights = {a.size for a in params if a.ndim > 1}
    report = Report(
        place=place,
        batch=experiment.training.batch_size,
        examples=experiment.dataset.spec.sizes["train"],
        data=sum(math.prod(a.shape) * a.dtype.itemsize for a in examples.values()),
        steps=steps_per_program(experiment, experiment.training.batch_size),
        parameters=sum(a.size for a in params),
        held=sum(held_bytes(a) for a in params),
        state=sum(held_bytes(a) for a in leaves),
        donated=sum(held_bytes(a) for n, a in enumerate(leaves) if n in kept),
        program=program,
        fsdp=experiment.training.fsdp,
        players=len(experiment.players),
        gradients=[each.size for each in hlo.of_weights(exchanged, weights)],
        share=share,
        largest=largest,
        needs=needs,
        problems=[],
    )
    return report._replace(problems=problems(report))


def problems(report: Report) -> list[str]:
    """Problems to fix, a sentence each."""
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
