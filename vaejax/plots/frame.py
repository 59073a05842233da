"""The base of all pictures: figures without pyplot, headings, and small panels."""

import io
import textwrap
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaejax.experiment import Experiment


class Picture(Figure):
    """A figure without pyplot, which notebooks show nevertheless.

    IPython draws a plain `Figure` only after pyplot was imported there.
    """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


FILES = ("npz:", "folder:", "hf:/")
"""The start of names that hold the path of a file or folder."""


def heading(experiment: Experiment, what: str) -> str:
    """`preset on dataset: what`; of a file, its name alone."""
    name = experiment.dataset.spec.name
    short = Path(name).name if name.startswith(FILES) else name
    return f"{experiment.name or 'experiment'} on {short}: {what}"


def panels(
    count: int, title: str, draw: Callable[[Axes, int], None], columns: int = 4
) -> Picture:
    """`count` small axes in rows; `draw(axes, i)` fills panel i."""
    columns = min(columns, count)
    rows = -(-count // columns)
    width = max(3.0 * columns, 4.2)
    figure = Picture(figsize=(width, 2.3 * rows + 0.6), dpi=100, layout="constrained")
    figure.suptitle(textwrap.fill(title, round(12 * width)), fontsize=11)
    for i in range(count):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, i)
    return figure
