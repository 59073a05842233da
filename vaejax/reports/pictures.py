"""Pictures of a run as parts of a page: data URIs that need no other file."""

import base64
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaejax import plots
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.quantities import Quantities
from vaejax.plots import compared
from vaejax.plots.compared import Rows
from vaejax.plots.frame import Picture, heading
from vaejax.training.workdir import load

log = logging.getLogger(__name__)
SHOWN = (
    "samples",
    "classes",
    "reconstructions",
    "completions",
    "imputations",
    "latents",
    "manifold",
)
COMPARED = "terms over steps; held-out data solid, training dashed"
SPREAD = "; of several runs the mean, in a band of one standard deviation over them"
DRAWING = "image/svg+xml"
SHARP = 150  # dots per inch of what is rasterized inside a drawing


class Image(NamedTuple):
    """A picture as base64 of its kind of file, and its size in CSS pixels."""

    kind: str
    content: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The source of an `img` element."""
        return f"data:{self.kind};base64,{self.content}"


class Drawn(NamedTuple):
    """A picture of a run; `narrow` is the same for a narrow screen, where it differs.

    Without an image, `lost` says why.
    """

    name: str
    caption: str = ""
    image: Image | None = None
    narrow: Image | None = None
    lost: str = ""

    @property
    def wide(self) -> bool:
        """Whether a phone must scroll it to show its letters."""
        return bool(
            self.image
            and not self.narrow
            and self.image.kind == DRAWING
            and self.image.width > 800
        )


def picture_names(experiment: Experiment, state: TrainState) -> list[str]:
    """The pictures of a report that apply to the run."""
    there = plots.applicable(experiment, state)
    return [name for name in SHOWN if name in there]


def pictures(
    experiment: Experiment, state: TrainState, workdir: Path
) -> Iterator[Drawn]:
    """The pictures of a run but its curves, one by one."""

    def drawn(name: str) -> Drawn:
        figure = plots.PICTURES[name](experiment, state, workdir)
        caption = captioned(figure, experiment)
        return Drawn(name, caption, embedded(figure))

    for name in picture_names(experiment, state):
        yield attempt(name, drawn)


def drawn_as_png(
    name: str, experiment: Experiment, state: TrainState, workdir: Path
) -> Drawn:
    """A picture of a run as PNG, for a page that is not of HTML."""

    def drawn(name: str) -> Drawn:
        figure = plots.PICTURES[name](experiment, state, workdir)
        caption = captioned(figure, experiment)
        width, height = figure.get_size_inches() * figure.dpi
        image = image_of(figure, "image/png", width, height, format="png")
        return Drawn(name, caption, image)

    return attempt(name, drawn, "the shared folder")


def embedded_curves(experiment: Experiment, state: TrainState, workdir: Path) -> Drawn:
    """The learning curves: side by side, and one below the other for a phone."""

    def drawn(name: str) -> Drawn:
        wide = plots.curves(experiment, state, workdir)
        narrow = plots.curves(experiment, state, workdir, columns=1)
        caption = captioned(wide, experiment)
        captioned(narrow, experiment)
        return Drawn(name, caption, embedded(wide), embedded(narrow))

    return attempt("curves", drawn)


def embedded_comparison(
    groups: Sequence[Sequence[Rows]], quantities: Quantities
) -> Drawn | None:
    """The curves of groups of runs in the same panels; None where there are none."""
    many = any(len(runs) > 1 for runs in groups)

    def drawn(name: str) -> Drawn:
        wide, narrow = (
            compared.overlaid(groups, quantities, columns) for columns in (None, 1)
        )
        for figure in (wide, narrow):
            untitled(figure)
        caption = COMPARED + (SPREAD if many else "")
        return Drawn(name, caption, embedded(wide), embedded(narrow))

    there = any(rows for runs in groups for rows in runs)
    return attempt("curves", drawn) if there else None


def samples_of(workdir: Path) -> Drawn:
    """Samples of a run, which is loaded for them."""

    def drawn(name: str) -> Drawn:
        experiment, state = load(workdir)
        figure = plots.PICTURES[name](experiment, state, workdir)
        return Drawn(name, captioned(figure, experiment), embedded(figure))

    return attempt("samples", drawn)


def attempt(
    name: str, draw: Callable[[str], Drawn], place: str = "the report"
) -> Drawn:
    """The picture; where it cannot be drawn, a warning and the reason in its place."""
    try:
        return draw(name)
    except Exception as error:  # whatever it is, the run and its report are worth more
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("warning: %s is without %s: %s", place, name, reason)
        return Drawn(name, lost=reason)


def captioned(figure: Picture, experiment: Experiment) -> str:
    """Takes a picture's title out, which the page has as its caption instead.

    Returns:
      It, without the run's name, which the page has once.
    """
    title = figure.get_suptitle() or figure.axes[0].get_title()
    untitled(figure)
    start = " ".join(heading(experiment, "").split())
    return " ".join(title.split()).removeprefix(start).strip()


def untitled(figure: Picture) -> None:
    """Takes the title over all panels out, or else that of the only one."""
    if figure.get_suptitle():
        figure.suptitle("")
    else:
        figure.axes[0].set_title("")


def embedded(figure: Picture) -> Image:
    """Grids of images pixel for pixel, as PNG; others as SVG, sharp at any zoom."""
    if any(axes.images for axes in figure.axes):
        width, height = figure.get_size_inches() * figure.dpi
        return image_of(figure, "image/png", width, height, format="png")
    for axes in figure.axes:
        for points in axes.collections:  # thousands, each a node of the document
            points.set_rasterized(True)
    width, height = figure.get_size_inches() * 96
    how = {"format": "svg", "dpi": SHARP, "metadata": {"Date": None}}
    return image_of(figure, DRAWING, width, height, **how)


def image_of(
    figure: Picture, kind: str, width: float, height: float, **how: Any
) -> Image:
    """The figure as a part of a page; `how` it is saved is matplotlib's."""
    buffer = io.BytesIO()
    figure.savefig(buffer, **how)
    content = base64.b64encode(buffer.getvalue()).decode()
    return Image(kind, content, round(width), round(height))
