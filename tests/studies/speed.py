"""Programs that train the same network, timed in turn, as results/speed.md has them:
python tests/studies/speed.py ROUNDS NAME='COMMAND' NAME='COMMAND' ...

Each program prints lines `examples_per_s NUMBER`, of which the median counts; it is
ended when it begins to print something else. Prints a row for each round: examples/s of
each, and how many times as fast as every other program the first one is.
"""

import shlex
import statistics
import subprocess
import sys

SPEED = "examples_per_s "


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


def main(rounds: int, given: list[str]) -> None:
    programs = dict(each.split("=", 1) for each in given)
    first, *others = programs
    print("| round |", " | ".join([*programs, *(f"x {name}" for name in others)]), "|")
    print("|---" * (2 * len(programs)), "|", sep="")
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for number in range(1, rounds + 1):
        speeds = {name: speed(command) for name, command in programs.items()}
        for name in others:
            ratios[name].append(speeds[first] / speeds[name])
        cells = [f"{value:,.0f}" for value in speeds.values()]
        cells += [f"{each[-1]:.2f}" for each in ratios.values()]
        print(f"| {number} |", " | ".join(cells), "|", flush=True)
    for name, each in ratios.items():
        print(f"x {name}: {min(each):.2f} to {max(each):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
