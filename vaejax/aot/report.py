"""The work and the output of `scripts/compile_check.py`."""

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vaejax.aot.check import Report, check, check_divides
from vaejax.aot.encoding import Encoding, check_encoding
from vaejax.aot.program import Program
from vaejax.aot.roofline import Times
from vaejax.aot.settings import Beside
from vaejax.aot.topology import open_slice
from vaejax.data import Dataset, Spec
from vaejax.data.reading import Reading
from vaejax.errors import InputError
from vaejax.experiment import Experiment
from vaejax.training.workdir import write_json


def compile_check(
    make: Callable[..., Experiment],
    names: Sequence[str],
    images: str,
    json: Path | None,
    beside: Beside = Beside(),
) -> None:
    """Checks an experiment on every slice and prints; exit code 1 where one fails."""
    if not names:
        raise InputError("name a slice: --topology v5e:2x4")
    experiment = make(dataset=stand_in(images)) if images else make()
    places = [open_slice(name, experiment.training.fsdp) for name in names]
    for place in places:
        check_divides(experiment.training.batch_size, place)
    print(report_heading(experiment), flush=True)
    reports, slices = [], []
    for place in places:
        reports.append(check(experiment, place, tries=beside.tries))
        print("\n".join(slice_lines(reports[-1])), flush=True)
        slices.append(to_json(reports[-1]))
        if beside.encode:
            asked = beside.encode, beside.encode_precision
            encoding = check_encoding(experiment, place, *asked)
            print(f"  {'encoding':14}{encoding_line(encoding)}", flush=True)
            slices[-1]["encoding"] = encoding_json(encoding)
    if json is not None:
        figures = {"preset": experiment.name, "settings": settings(experiment)}
        write_json(json, figures | {"slices": slices})
    if any(report.problems for report in reports):
        sys.exit(1)


def stand_in(text: str) -> Dataset:
    """Images in 10 classes that need not be here, described as `162770x64x64x3`."""
    if not re.fullmatch(r"[1-9]\d{0,9}(x[1-9]\d{0,9}){3}", text):
        raise InputError(f"--images {text}: give COUNTxHEIGHTxWIDTHxCHANNELS")
    count, *shape = (int(number) for number in text.split("x"))
    spec = Spec(
        name=f"images {text}",
        kind="image",
        shape=tuple(shape),
        levels=256,
        classes=10,
        sizes={"train": count, "test": count},
        digest="",
        streams=Reading().streams(count, shape),
    )

    def split(name: str) -> Any:
        raise InputError(f"--images has no examples to take the {name} split from")

    return Dataset(spec, split)


def settings(experiment: Experiment) -> dict[str, Any]:
    """The preset's arguments, as JSON has them."""
    return {**experiment.arguments, "dataset": experiment.dataset.spec.name}


def report_heading(experiment: Experiment) -> str:
    """The compiled program, in one line."""
    training = experiment.training
    return (
        f"{experiment.name} on {experiment.dataset.spec.name}, "
        f"--parallel {training.parallel} --batch-size {training.batch_size} "
        f"--precision {training.precision} --fsdp {training.fsdp}"
    )


def slice_lines(report: Report) -> list[str]:
    """A slice's figures, a line for each kind."""
    chip, count = report.place.chip, len(report.place.devices)
    rows = {
        "": f"{count} {chip.name} on {plural(report.place.hosts, 'host')}",
        "model": f"{report.parameters:,} parameters; a device holds "
        f"{amount(report.held)} of them, and {amount(report.state)} of the state",
        "data": data(report),
        **program_rows(report),
        "largest batch": largest_batch(report),
        "verdict": "; ".join(report.problems) or "sound",
    }
    head = rows.pop("")
    return [f"\n{report.place.name}: {head}"] + [
        f"  {name:14}{value}" for name, value in rows.items()
    ]


def data(report: Report) -> str:
    """Where the examples are, and how fast they must come."""
    if report.data:
        return f"{report.examples:,} examples, {amount(report.data)} on every device"
    if report.times is None:
        return f"{report.examples:,} examples, which stream"
    each = report.batch / report.times.seconds / report.place.hosts
    return (
        f"{report.examples:,} examples, which stream: at best {each:,.0f} a second "
        "from each host"
    )


def program_rows(report: Report) -> dict[str, str]:
    """The lines about the compiled program."""
    made = report.program
    if made is None:
        return {}
    memory = made.memory
    kinds = Counter(each.kind for each in made.collectives)
    found = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "none"
    least = "at least " if made.loops else ""
    return {
        "compiled": f"{made.seconds:.1f} s, {plural(report.steps, 'step')} as one "
        "program",
        "work": work(made),
        "memory": f"{amount(memory.total)} of {amount(report.place.chip.memory)}: "
        f"arguments {amount(memory.arguments)}, "
        f"temporaries {amount(memory.temporaries)}, "
        f"outputs {amount(memory.outputs)} of which {amount(memory.donated)} in the "
        f"arguments' place, code {amount(memory.code)}",
        "donated": f"{amount(report.donated)} of the state's {amount(report.state)}",
        "collectives": f"{found}; each device sends {least}{amount(report.sent)} "
        "in a step",
        "gradients": gradients(report),
        "split": work_split(report),
        "at best": at_best(report),
    }


def gradients(report: Report) -> str:
    """How the gradients of all devices become one."""
    if report.fsdp > 1:
        return f"parts of them: each {report.fsdp} devices share a copy of the state"
    sums = plural(len(report.gradients), "all-reduce")
    return (
        f"{sums}, {amount(sum(report.gradients))} together, for "
        f"{plural(report.players, 'player')}"
    )


def work(made: Program) -> str:
    """FLOPs, bytes and their ratio."""
    if made.flops is None or made.accessed is None:
        return "not counted by this compiler"
    return (
        f"{made.flops:.3g} FLOP and {amount(made.accessed)} accessed by each device "
        f"and step, {made.flops / made.accessed:.1f} FLOP/byte" + counted_once(made)
    )


def counted_once(made: Program) -> str:
    """The caveat about a step that has loops inside."""
    if not made.loops:
        return ""
    return (
        f"; more than that, as {plural(made.loops, 'loop')} in it counted as one pass"
    )


def at_best(report: Report) -> str:
    """The roofline's time and speed, and what binds."""
    return least_time(report.times, "a step", report.batch)


def least_time(times: Times | None, what: str, examples: int) -> str:
    """The least time of so many examples, what takes it, and the speed."""
    if times is None:
        return "unknown, as the work is"
    each = ", ".join(f"{name} {1e3 * t:.3g}" for name, t in times._asdict().items())
    return (
        f"{1e3 * times.seconds:.3g} ms {what}, {times.bound}-bound ({each}): "
        f"{examples / times.seconds:.3g} examples/s"
    )


def encoding_line(encoding: Encoding) -> str:
    """The memory that encoding takes, its least time, and how fast it is at most."""
    head = f"{plural(encoding.examples, 'example')} on a device, {encoding.precision}: "
    if encoding.program is None:
        return head + f"does not fit, {amount(encoding.needed)}"
    best = least_time(encoding.times, "a batch", encoding.examples)
    return f"{head}{amount(encoding.needed)}, at best {best}"


def work_split(report: Report) -> str:
    """Share of the batch's work that each device does."""
    if report.share is None:
        return "one device" if len(report.place.devices) == 1 else "not compared"
    done, even = report.share
    return (
        f"a device does {done:.3f} of the work of {1 / even:.0f} devices "
        f"({even:.3f} and what each does whole, as the optimizer)"
    )


def largest_batch(report: Report) -> str:
    """The advice, and why not more."""
    if not report.largest:
        return "none was found that fits"
    count = len(report.place.devices)
    part = report.largest // count
    need = next(n for n in report.needs if n.part == part and n.fits)
    limit = next((n for n in sorted(report.needs) if not n.fits), None)
    full = 100 * need.needed / report.place.chip.memory
    why = f"{full:.0f} % of the memory"
    if limit is not None:
        why = f"{limit.part * count} does not"
    elif report.largest + count > report.examples:
        why = f"there are {report.examples} examples"
    elif len(report.needs) == 1 and full < 90:
        why += ", and no larger one was tried"
    return (
        f"{report.largest} ({part} a device) fits, by compilation: "
        f"{amount(need.needed)}; {why}"
    )


def to_json(report: Report) -> dict[str, Any]:
    """All figures by name, in bytes, FLOPs and seconds."""
    made, place, times = report.program, report.place, report.times
    return report._asdict() | {
        "place": {
            "name": place.name,
            "devices": len(place.devices),
            "hosts": place.hosts,
            "chip": place.chip._asdict(),
        },
        "program": made and made._asdict() | program_json(report),
        "times": times_json(times),
        "needs": [need._asdict() for need in report.needs],
    }


def times_json(times: Times | None) -> dict[str, Any] | None:
    """The least times by name, and which of them is the longest."""
    return times and times._asdict() | {"bound": times.bound}


def encoding_json(encoding: Encoding) -> dict[str, Any]:
    """The figures of an encoding, of its program those that speed depends on."""
    made, times = encoding.program, encoding.times
    return {
        "examples": encoding.examples,
        "precision": encoding.precision,
        "needed": encoding.needed,
        "flops": made and made.flops,
        "accessed": made and made.accessed,
        "times": times_json(times),
        "speed": encoding.speed,
    }


def program_json(report: Report) -> dict[str, Any]:
    """The parts of a program that JSON has no word for."""
    made = report.program
    if made is None:
        return {}
    kinds = Counter(each.kind for each in made.collectives)
    return {
        "memory": made.memory._asdict() | {"total": made.memory.total},
        "collectives": dict(kinds),
        "aliased": len(made.aliased),
        "sent": report.sent,
    }


def plural(count: int, noun: str) -> str:
    """As in `1 host`, `2 hosts`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def amount(count: float) -> str:
    """Bytes in the unit that suits them."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = min(int(math.log2(count) // 10) if count >= 1 else 0, len(units) - 1)
    return f"{count / 2 ** (10 * power):.4g} {units[power]}"
