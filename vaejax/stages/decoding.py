"""A second stage with the first one that decodes what it generates."""

import dataclasses
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from vaejax.data.kinds import kind_of
from vaejax.data.spec import FirstStage
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import TwoStages
from vaejax.samplers.record import state_digest
from vaejax.stages.sources import open_first

PARTS = ("second", "first")


def decoded(
    experiment: Experiment, state: TrainState, first: str | Path | None = None
) -> tuple[Experiment, TrainState]:
    """A run whose samples are those of the data, where it models another one's latents.

    Its data, units and shapes are those of the first stage, and what it generates is
    decoded by it; it cannot be trained. A run of other data stays as it is.

    Args:
      experiment: what was trained.
      state: its parameters.
      first: the folder of the first stage; None is where it was when it encoded.

    Returns:
      What `sample` and the other functions take first.

    Raises:
      InputError: the first stage is missing, or has changed since it encoded.
    """
    known = experiment.dataset.spec.first
    if known is None and first is not None:
        raise InputError(
            f"{experiment.name} was trained on no latents: it has no first stage"
        )
    while known is not None:
        experiment, state = composed(experiment, state, *load_first(known, first))
        known, first = experiment.dataset.spec.first, None
    return experiment, state


def load_first(
    first: FirstStage, place: str | Path | None = None
) -> tuple[Experiment, TrainState]:
    """The first stage of a record, where it was or at another place.

    Raises:
      InputError: it is missing, or has other parameters than those that encoded.
    """
    try:
        place = str(place or first.run)
        experiment, state = open_first(place, first.source, first.side)
    except InputError as error:
        raise InputError(f"the first stage cannot be loaded: {error}") from None
    found = first._replace(run=place, digest=state_digest(state), step=int(state.step))
    if found.digest != first.digest:
        raise InputError(first.change(found))
    return experiment, state


def composed(
    second: Experiment, state: TrainState, first: Experiment, decoder: TrainState
) -> tuple[Experiment, TrainState]:
    """Both stages as one experiment, of the data of the first, and its state."""
    spec = second.dataset.spec
    model = TwoStages(
        second=second.model,
        first=first.model,
        shape=spec.shape,
        coded=kind_of(spec).coded,
        mean=tuple(spec.mean),
        scale=tuple(spec.scale),
    )
    both = dataclasses.replace(
        second,
        model=model,
        players=MappingProxyType({}),
        dataset=first.dataset,
        preprocess=first.preprocess,
        metrics=lambda samples: {},
        notes=(),
        likelihood="",
    )
    stages = [variables_of(each) for each in (state, decoder)]
    merged: dict[str, dict[str, Any]] = {}
    for part, variables in zip(PARTS, stages, strict=True):
        for collection, arrays in variables.items():
            merged.setdefault(collection, {})[part] = arrays
    params = merged.pop("params", {})
    step = jax.device_get(state.step)
    return both, TrainState(step, params, merged, {}, {})
