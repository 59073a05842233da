"""Programs that train the same network, timed in turn:

    python tests/studies/speed.py speed_vae 3 --batch-sizes 128 20 \\
        --program vaejax 'python scripts/benchmark.py --batch-size {batch}' \\
        --program torch 'python my_loop.py {batch}'

Each program prints lines `examples_per_s NUMBER`, of which the median counts; it is
ended when it begins to print something else. A round runs all of them once, and its
ratios say how many times as fast as each other program the first one is.
"""

import argparse
import shlex
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaejax.reproduction.measured import (
    RESULTS,
    MeasuredTable,
    keep_measured,
    measured_here,
    print_measured,
)

SPEED = "examples_per_s "
Speeds = Mapping[str, float]


def speed(command: str) -> float:
    """Examples/s, the median over the lines that the program prints."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    found = []
    with subprocess.Popen(shlex.split(command), **pipes) as process:
        for line in process.stdout or ():
            if line.startswith(SPEED):
                found.append(float(line.removeprefix(SPEED)))
            elif found:
                break
        process.kill()
    if not found:
        raise RuntimeError(f"{command} printed no line with {SPEED}")
    return statistics.median(found)


def timed(programs: Mapping[str, str], batch: int, rounds: int) -> list[Speeds]:
    """The speeds of each round."""
    found = []
    for number in range(1, rounds + 1):
        turn = {
            name: speed(command.replace("{batch}", str(batch)))
            for name, command in programs.items()
        }
        print(batch, number, {name: round(value) for name, value in turn.items()})
        found.append(turn)
    return found


def rounds_table(found: Mapping[int, Sequence[Speeds]]) -> MeasuredTable:
    """Speeds by batch and round; of two programs the ratio beside them."""
    first, *others = programs = [*next(iter(found.values()))[0]]
    ratio = ["times as fast"] if len(others) == 1 else []
    rows = []
    for batch, turns in found.items():
        for number, turn in enumerate(turns, 1):
            cells = [f"{turn[name]:,.0f}" for name in programs]
            cells += [f"{turn[first] / turn[name]:.2f}" for name in others if ratio]
            rows.append([str(batch), str(number), *cells])
    text = "Examples/s, medians over epochs."
    return MeasuredTable(["batch", "round", *programs, *ratio], rows, text)


def ratios_table(found: Mapping[int, Sequence[Speeds]]) -> MeasuredTable:
    """The range of the first program's ratios to each other, and their median."""
    first, *others = next(iter(found.values()))[0]
    rows = []
    for name in others:
        for batch, turns in found.items():
            ratios = [turn[first] / turn[name] for turn in turns]
            range_ = f"{min(ratios):.2f} to {max(ratios):.2f}"
            middle = f"{range_}, median {statistics.median(ratios):.2f}"
            rows.append([name, str(batch), middle])
    text = (
        "How many times as fast the first program is: from the least ratio of a round "
        "to the greatest."
    )
    return MeasuredTable(["against", "batch", "times as fast"], rows, text)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="speed_vae or speed_vaegan: the file it writes")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--program",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "COMMAND"),
    )
    given = parser.parse_args(words)
    programs = dict(given.program)
    found = {batch: timed(programs, batch, given.rounds) for batch in given.batch_sizes}
    tables = [rounds_table(found), ratios_table(found)]
    measured = measured_here(tables, "jax")
    keep_measured(given.out, given.name, measured)
    print_measured(measured)


if __name__ == "__main__":
    main()
