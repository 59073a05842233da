"""The main of `compare`, called with parsed flags, and the tables that it prints."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vaejax.cli.commands import keep_compiled
from vaejax.cli.tables import markdown_lines
from vaejax.reports import compare
from vaejax.reports.comparing import Comparison
from vaejax.reports.comparison import ComparedLine
from vaejax.reports.differences import Difference
from vaejax.reports.page import rounded
from vaejax.reports.pairing import Pairs
from vaejax.training.facts import Value


def compare_runs(
    workdirs: Sequence[Path],
    samples: int | None,
    split: str,
    metrics: Sequence[str],
    devices: int,
    out: Path,
    as_json: bool,
) -> None:
    """Prints tables, or JSON, of runs and of their differences, and writes a page."""
    keep_compiled()
    how = {"samples": samples, "split": split, "devices": devices}
    found = compare(*workdirs, out=out, metrics=metrics, **how)
    if as_json:
        print(json.dumps(found.record(), indent=2))
    else:
        print("\n".join(comparison_parts(found)))
    if found.unpaired:
        print(
            f"warning: no differences over examples: {found.unpaired}", file=sys.stderr
        )
    print(f"wrote {out}", file=sys.stderr if as_json else sys.stdout)


def comparison_parts(found: Comparison) -> list[str]:
    """The parts of what is printed: each a sentence and its table."""
    parts = [
        "Each run; ± is the standard error over examples.",
        values_table(found, found.outcomes, found.names, "run"),
    ]
    if found.several:
        parts += [
            "Means over runs that differ in their seeds alone; ± is the standard "
            "deviation over these runs.",
            values_table(found, found.means, group_heads(found), "group"),
        ]
    if found.pairs is not None:
        others = [n for i, n in enumerate(found.names) if i != found.pairs.first]
        parts += [
            f"Minus {found.names[found.pairs.first]}, "
            f"over {measured_words(found.pairs)}; ± is the standard error "
            "of the paired differences (another test set).",
            differences_table(found.paired_lines(), others, "run"),
        ]
    if found.over_seeds:
        parts += [
            f"Minus {found.groups[0].name}, over seeds; ± is the standard error by "
            "Welch (another training).",
            differences_table(found.seed_lines(), group_heads(found)[1:], "group"),
        ]
    return parts


def measured_words(pairs: Pairs) -> str:
    """As in `the same 359 examples, 100 importance samples each`."""
    samples = f", {pairs.samples:,} importance samples each" if pairs.samples else ""
    return f"the same {pairs.examples:,} examples{samples}"


def group_heads(found: Comparison) -> list[str]:
    """The names of groups, each with the number of its runs."""
    return [f"{group.name} ({len(group.runs)})" for group in found.groups]


def values_table(
    found: Comparison, lines: Sequence[ComparedLine], heads: Sequence[str], what: str
) -> str:
    """A row for each run or group, a column for each number."""
    cells = {line.name: line.cells for line in lines}
    names = found.main(cells)
    rows = [
        [head, *(value_words(cells[name][place]) for name in names)]
        for place, head in enumerate(heads)
    ]
    return markdown_lines([what, *names], rows)


def value_words(value: Value | None) -> str:
    """As in `104.2 ± 0.3`."""
    if value is None:
        return ""
    shown = rounded(value.value, value.error)
    return shown if value.error is None else f"{shown} ± {rounded_error(value.error)}"


def rounded_error(error: float) -> str:
    """An error to its second digit."""
    return rounded(error, error)


def differences_table(
    lines: Sequence[ComparedLine], heads: Sequence[str], what: str
) -> str:
    """A row for each number of each run or group."""
    rows = [
        [head, line.name, *difference_words(line.cells[place])]
        for place, head in enumerate(heads)
        for line in lines
        if line.cells[place] is not None
    ]
    columns = (what, "metric", "difference", "± s.e.", "95 % interval", "z")
    return markdown_lines(columns, rows)


def difference_words(found: Difference) -> list[str]:
    """The difference, its error, its interval, and how many errors it is."""
    value, error = found.value, found.error
    if error is None or found.low is None or found.high is None:
        return [rounded(value), "", "", ""]
    low, high = (rounded(bound, error) for bound in (found.low, found.high))
    return [
        rounded(value, error),
        rounded_error(error),
        f"{low} to {high}",
        f"{value / error:.1f}",
    ]
