"""Writes metrics during training, and a progress line for people.

`metrics.jsonl` holds what the run computed and nothing that differs between two
executions of it; times and speeds go to the terminal, and to `timing.jsonl`.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from vaejax.metrics.quantities import Quantities, telling_terms
from vaejax.runtime.jsonlines import Row, keep_until, lines_of, parse_rows
from vaejax.runtime.storage import is_remote, write_whole


class Writer(Protocol):
    """Takes one row for a step of a split."""

    def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """Appends one JSON object a line; a killed process leaves whole lines or a tail.

    The file is touched when the first row comes: that of a finished run stays.
    """

    def __init__(self, path: Path, until: int) -> None:
        self._path, self._until = path, until
        self._file: TextIO | None = None
        parse_rows(path)  # what is damaged is said before any training

    def write(self, step: int, split: str, metrics: Mapping[str, float | str]) -> None:
        if self._file is None:
            keep_until(self._path, self._until)
            self._file = self._path.open("a", encoding="utf-8")
        row = {"step": step, "split": split, **metrics}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """To the disk; a mounted bucket takes a file then, and when it is closed."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def since_best(evaluations: Sequence[tuple[int, float]], start: float = 0) -> int:
    """Number of evaluations after the best, which is the first of the least.

    Args:
      evaluations: step and selection of each.
      start: the step from which on they count; the best may be an earlier one.
    """
    selections = [selection for _, selection in evaluations]
    if not selections:
        return 0
    best = selections.index(min(selections))
    return sum(step >= start for step, _ in evaluations[best + 1 :])


def selections_of(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Step and selection of each row of an evaluation."""
    return [(row["step"], row["selection"]) for row in rows if "selection" in row]


def warm_up_steps(settings: Mapping[str, Any], epoch_steps: int) -> float:
    """Steps of the warm-up of a preset's settings, whose evaluations are not counted by
    its patience.
    """
    constant = settings.get("schedule") == "constant"
    return 0 if constant else settings.get("warm_up", 0) * epoch_steps


class Uploaded:
    """JSON lines as an object of a bucket: as it cannot grow, each sync writes all."""

    def __init__(self, path: Path, until: int) -> None:
        self._path, self._until = path, until
        self._rows: list[Row] | None = None
        parse_rows(path)

    def write(self, step: int, split: str, metrics: Mapping[str, float | str]) -> None:
        if self._rows is None:
            self._rows = keep_until(self._path, self._until)
        self._rows.append({"step": step, "split": split, **metrics})

    def sync(self) -> None:
        """To the bucket."""
        if self._rows is not None:
            write_whole(self._path, lines_of(self._rows))

    def close(self) -> None:
        self.sync()


def rows_writer(path: Path, until: int) -> JsonLines | Uploaded:
    """A writer of JSON lines, which takes rows after step `until` out of the file."""
    return Uploaded(path, until) if is_remote(path) else JsonLines(path, until)


class Progress:
    """One line on a terminal, kept up to date; plain lines elsewhere."""

    def __init__(self, total: int, start: int, quantities: Quantities) -> None:
        self._total, self._stream = total, sys.stderr
        self._quantities = quantities
        self._bar = None
        if self._stream.isatty():
            self._bar = terminal_bar(total, start)
            self._bar.start()

    def train(
        self,
        step: int,
        metrics: Mapping[str, float],
        speed: float,
        waiting: float = 0.0,
    ) -> None:
        """A training report: `speed` in examples/s over the last interval.

        `waiting` is the share of it without data, said from one percent on.
        """
        rate = f"{speed:,.0f} examples/s"
        notes = [rate]
        if waiting >= 0.01:
            notes.insert(0, f"{rate}, {waiting:.0%} of the time waiting for data")
        terms = telling_terms(metrics, self._quantities)
        if self._bar is None:
            self.say(f"step {step}/{self._total}  {'  '.join([*terms, notes[0]])}")
        else:
            text = fit_line(
                terms, notes, self._bar.console.width - columns_taken(self._total)
            )
            self._bar.update(self._bar.task_ids[0], completed=step, text=text)

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.console.print(line, highlight=False, markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


BAR, TIME = 20, 8  # columns of the bar, and of the time that is left: 12:34:56


def columns_taken(total: int) -> int:
    """Columns of a terminal's line beside its text: step, bar, time, and gaps."""
    return len(f"step {total}/{total}") + BAR + TIME + 3


def fit_line(terms: Sequence[str], notes: Sequence[str], room: int) -> str:
    """As many of the terms as fit `room` columns beside the first note that fits.

    The first term comes before any note. A text that is too long as it stands is
    left to the terminal to cut.

    Args:
      terms: the first are the ones to keep.
      notes: what to say of the speed, from the longest to the shortest.
    """
    lines = [
        "  ".join([*terms[:count], note])
        for note in notes
        for count in range(len(terms), min(len(terms), 1) - 1, -1)
    ]
    lines.append("  ".join(terms[:1]))
    return next((line for line in lines if len(line) <= room), lines[-1])


def terminal_bar(total: int, start: int) -> Any:
    """A rich progress bar with the loss terms, the speed and the time that is left."""
    from rich import progress
    from rich.table import Column

    from vaejax.runtime.terminal import console

    bar = progress.Progress(
        progress.TextColumn("step {task.completed}/{task.total}"),
        progress.BarColumn(bar_width=BAR),
        progress.TextColumn("{task.fields[text]}"),
        progress.TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        console=console(stderr=True),
        refresh_per_second=4,
    )
    bar.add_task("train", total=total, completed=start, text="compiling")
    return bar
