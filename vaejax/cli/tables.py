"""Tables that scripts print."""

import io
import sys
from collections.abc import Mapping, Sequence

from vaejax.metrics.quantities import Quantities, meaning_of, rank
from vaejax.metrics.weights import distrust
from vaejax.sweeps.summary import StudyRow
from vaejax.sweeps.sweep import value_text


def markdown(rows: Sequence[StudyRow]) -> str:
    """A line for each row of a study: settings, and every mean with its deviation."""
    noted = ("examples", "generated", "compared_with")  # the same for all
    names = dict.fromkeys(name for row in rows for name in row.mean)
    shown = [n for n in names if n not in noted and not n.endswith("_se")]
    lost = any(row.diverged for row in rows)
    heads = [*rows[0].settings, "seeds", *(["diverged"] if lost else []), *shown]
    lines = []
    for row in rows:
        counts = [row.replicas, *([row.diverged] if lost else [])]
        cells = [value_text(value) for value in row.settings.values()]
        lines.append([*cells, *map(str, counts), *(cell(row, n) for n in shown)])
    return markdown_lines(heads, lines)


def markdown_lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, however wide, its columns aligned."""
    from rich import box
    from rich.table import Table

    from vaejax.runtime.terminal import console

    table = Table(*heads, box=box.MARKDOWN)
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    console(text, width=10_000).print(table)
    lines = (line.strip() for line in text.getvalue().splitlines())
    return "".join(f"{line}\n" for line in lines if line)


def cell(row: StudyRow, name: str) -> str:
    """As in `104.2 ± 0.3`; no deviation where it is unknown or all are equal."""
    if name not in row.mean:
        return ""
    mean, deviation = f"{row.mean[name]:.5g}", row.deviation.get(name, 0.0)
    return f"{mean} ± {deviation:.2g}" if deviation > 0 else mean


def print_table(
    title: str, values: Mapping[str, float], quantities: Quantities
) -> None:
    """Values with standard errors over examples, what they mean, and what to doubt."""
    from rich.table import Table

    from vaejax.runtime.terminal import console

    table = Table("metric", "value", "± s.e.", "meaning", title=title)
    names = [name for name in values if not name.endswith("_se")]
    for name in sorted(names, key=lambda name: rank(quantities, name)):
        # Where all examples are equal, there is no telling how others would be.
        error = values.get(f"{name}_se", 0.0)
        shown = f"{error:.3g}" if error > 0 else ""
        table.add_row(name, f"{values[name]:.6g}", shown, meaning_of(quantities, name))
    console().print(table)
    if warning := distrust(values):
        print(warning, file=sys.stderr)
