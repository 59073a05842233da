"""Pictures of a trained run: pure functions of (experiment, state) to figures.

    experiment, state = vaejax.load("runs/demo")
    vaejax.plots.samples(experiment, state)

The figures belong to no window and to no pyplot: a notebook shows them, `savefig`
writes them, and the backend stays as the user set it. `x` is in the model's units.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vaejax.errors import InputError, nearest
from vaejax.experiment import Experiment, TrainState
from vaejax.models import conditions_of
from vaejax.plots.blocks import blocks, layers, require_blocks, require_layers
from vaejax.plots.conditional import attributes, classes, completions, labels
from vaejax.plots.examples import (
    require_attributes,
    require_context,
    require_encoded_images,
    require_imputer,
    require_labelled_latents,
    require_labels,
    require_latents,
    require_plane,
    require_posterior,
)
from vaejax.plots.factors import factors, require_factors
from vaejax.plots.frame import Picture
from vaejax.plots.grid import image_grid, save_grid
from vaejax.plots.images import (
    interpolation,
    manifold,
    reconstructions,
    samples,
    traversal,
)
from vaejax.plots.laboratory import gaps, nll_over_k, rate_distortion
from vaejax.plots.missing import imputations
from vaejax.plots.plane import latents
from vaejax.plots.terms import curves
from vaejax.runtime.storage import written_whole
from vaejax.sharing.manifest import is_shared
from vaejax.stages.decoding import decoded
from vaejax.training.workdir import load, readable_workdir

Draw = Callable[[Experiment, TrainState, Path], Picture]


def of_state(draw: Callable[[Experiment, TrainState], Picture]) -> Draw:
    """A picture that reads nothing of the workdir, called like one that does.

    Of a second stage it shows what the first one decodes.
    """
    return lambda experiment, state, workdir: draw(*decoded(experiment, state))


PICTURES: Mapping[str, Draw] = {
    "curves": curves,
    "samples": of_state(samples),
    "reconstructions": of_state(reconstructions),
    "interpolation": of_state(interpolation),
    "traversal": of_state(traversal),
    "manifold": of_state(manifold),
    "latents": of_state(latents),
    "classes": of_state(classes),
    "labels": of_state(labels),
    "attributes": of_state(attributes),
    "completions": of_state(completions),
    "imputations": of_state(imputations),
    "blocks": of_state(blocks),
    "layers": of_state(layers),
    "factors": of_state(factors),
}

MEASUREMENTS: Mapping[str, Draw] = {
    "nll_over_k": nll_over_k,
    "gaps": gaps,
    "rate_distortion": rate_distortion,
}
"""Pictures of what evaluate.py --what has measured, drawn where asked for by name."""

REQUIREMENTS: Mapping[str, Callable[[Experiment, TrainState, str], None]] = {
    "samples": require_latents,
    "reconstructions": require_posterior,
    "interpolation": require_encoded_images,
    "traversal": require_encoded_images,
    "latents": require_posterior,
    "manifold": require_plane,
    "classes": require_labels,
    "labels": require_labelled_latents,
    "attributes": require_attributes,
    "completions": require_context,
    "imputations": require_imputer,
    "blocks": require_blocks,
    "layers": require_layers,
    "factors": require_factors,
}


def applicable(experiment: Experiment, state: TrainState) -> list[str]:
    """The names of the pictures that say something of this run, in order.

    Imputations are among them where the model is of incomplete examples: data with
    holes, or a training that hides parts. Others draw them when asked by name.
    """
    with contextlib.suppress(InputError):  # which the pictures say
        experiment, state = decoded(experiment, state)
    spec = experiment.dataset.spec
    holes = spec.masked or spec.hidden or "seen" in conditions_of(experiment.model)

    def applies(name: str) -> bool:
        if name == "imputations" and not holes:
            return False
        try:
            REQUIREMENTS[name](experiment, state, name)
        except InputError:
            return False
        return True

    return [name for name in PICTURES if name not in REQUIREMENTS or applies(name)]


def write(
    workdir: Path, names: Sequence[str] = (), out: Path | None = None
) -> Iterator[Path]:
    """Draws pictures of a run into `out`/NAME.png, and yields each path once written.

    Args:
      workdir: the run.
      names: keys of `PICTURES` or `MEASUREMENTS`; none means all of the former that
        apply to the run.
      out: a folder; None is `plots` in the workdir. A shared model wants one.

    Raises:
      InputError: a name that is no picture, or a picture that needs another run.
    """
    known = {**PICTURES, **MEASUREMENTS}
    for name in names:
        if name not in known:
            raise InputError(f"no picture {name!r}: {nearest(name, known)}")
    workdir = readable_workdir(workdir)
    lost = ("curves",) if is_shared(workdir) else ()
    if lost and (out is None or "curves" in names):
        raise InputError(
            f"{workdir} is a shared model, which has no log and stays as it is: give "
            "--out FOLDER, and no curves"
        )
    experiment, state = load(workdir)
    folder = out or workdir / "plots"
    there = (name for name in applicable(experiment, state) if name not in lost)
    for name in names or there:
        if name in REQUIREMENTS:
            REQUIREMENTS[name](*decoded(experiment, state), name)
        yield save_figure(known[name](experiment, state, workdir), folder, name)


def save_figure(figure: Picture, folder: Path, name: str) -> Path:
    """Writes `folder`/NAME.png and returns its path; the folder is made.

    Args:
      figure: the picture.
      folder: where to.
      name: of the file, without its ending.

    Returns:
      The path of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}.png"
    with written_whole(place) as file:
        figure.savefig(file, format="png")
    return place


__all__ = [
    "MEASUREMENTS",
    "PICTURES",
    "Picture",
    "applicable",
    "attributes",
    "blocks",
    "classes",
    "completions",
    "curves",
    "factors",
    "gaps",
    "image_grid",
    "imputations",
    "interpolation",
    "labels",
    "latents",
    "layers",
    "manifold",
    "nll_over_k",
    "rate_distortion",
    "reconstructions",
    "samples",
    "save_figure",
    "save_grid",
    "traversal",
    "write",
]
