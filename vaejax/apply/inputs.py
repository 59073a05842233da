"""Batches that queries hand to a model: what users give, checked and completed.

What a model is conditioned on is taken from `given`, else it follows from x, else it is
nothing where the model has p(x | nothing) (`Preprocess.derive`); else it is asked for.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.data.entries import (
    check_pixels,
    checked_labels,
    checked_like_x,
    checked_x,
    is_concrete,
)
from vaejax.data.kinds import kind_of
from vaejax.data.preprocess import blank
from vaejax.errors import InputError, as_text, nearest
from vaejax.experiment import Experiment
from vaejax.models import conditions_of
from vaejax.types import Array, ArrayLike, Batch, Size

Given = Mapping[str, Any]
"""Entries of a batch, arrays or lists: `checked_given` says which."""
Examples = ArrayLike | Given
"""`x`, or entries of a batch with `x` among them, as `Experiment.inputs` makes them."""
NOTHING: Given = MappingProxyType({})
LIKE_X = ("mask", "context", "seen")
ENTRIES = ("y", *LIKE_X)
WITHOUT_USE = ("x", "index", "hidden", "truth", "weight")
"""Entries of whole batches that no model is given."""


def batch_of_examples(
    experiment: Experiment, x: Examples, given: Given = NOTHING
) -> dict[str, Array]:
    """The batch of `x`, 0 in its holes, with their mask and the model's conditions.

    Raises:
      InputError: x is not in the model's units and shape, or a condition is missing.
    """
    told = isinstance(x, Mapping)
    if told and "x" not in x:
        raise InputError(
            f"the examples have no entry 'x': they have {', '.join(map(str, x))}"
        )
    given = {**x, **given_entries(given)} if told else given
    binary = experiment.preprocess.values == "binary"
    values, holes = checked_x(
        x["x"] if told else x, experiment.dataset.spec, binary=binary, told=told
    )
    batch = checked_given(experiment, given, values.shape)
    if holes is not None:
        batch["mask"] = batch.get("mask", jnp.ones(values.shape)) * ~holes
    if "mask" in batch:
        values = jnp.where(batch["mask"] == 1, values, 0)
    return conditioned(experiment, {**batch, "x": values}, values.shape)


def batch_to_generate(
    experiment: Experiment, num: Size, given: Given = NOTHING
) -> dict[str, Array]:
    """A batch of `num` examples whose `x` is zeros, which is read for its shape alone.

    Raises:
      InputError: a condition is missing.
    """
    shape = (num, *experiment.dataset.spec.shape)
    batch = checked_given(experiment, given, shape)
    return conditioned(experiment, batch, shape) | {"x": jnp.zeros(shape)}


def blank_batch(experiment: Experiment, num: Size = 1) -> Batch:
    """A batch with every entry that training has: for their shapes alone."""
    raw = blank(experiment.dataset.spec, num)
    return experiment.preprocess.apply(raw, jax.random.key(0))


def conditioned(
    experiment: Experiment, batch: Batch, shape: tuple[Size, ...]
) -> dict[str, Array]:
    """The batch with what follows from it; InputError where a condition is missing."""
    found = dict(experiment.preprocess.derive(batch, shape))
    missing = [n for n in conditions_of(experiment.model) if n not in found]
    if missing:
        kinds = ["labels" if name == "y" else name for name in missing]
        wanted = ", ".join(
            f"{name!r}: {'labels' if name == 'y' else '...'}" for name in missing
        )
        raise InputError(
            f"the model is conditioned on {' and '.join(kinds)}: "
            f"pass given={{{wanted}}}"
        )
    return found


def checked_given(
    experiment: Experiment, given: Given, shape: tuple[Size, ...]
) -> dict[str, Array]:
    """The given entries as arrays; InputError where one cannot be meant."""
    for name in given_entries(given):
        if name not in ENTRIES + WITHOUT_USE:
            close = nearest(name if isinstance(name, str) else "", ENTRIES)
            raise InputError(f"given has no entry {as_text(name)}: {close}")
    spec = experiment.dataset.spec
    found = {n: checked_like_x(n, given[n], shape) for n in LIKE_X if n in given}
    if "y" in given:
        found["y"] = checked_labels(given["y"], spec, shape[0])
    pixels = kind_of(spec).scaled
    if "context" in found and pixels and is_concrete(found["context"]):
        seen = np.asarray(found.get("seen", np.ones(found["context"].shape)))
        check_pixels(np.asarray(found["context"])[seen == 1], "given['context']")
    return found


def given_entries(given: Any) -> Given:
    """The given entries by name; InputError where they have none."""
    if not isinstance(given, Mapping):
        raise InputError(
            f"given is a {type(given).__name__}: name what it holds, as in "
            "given={'y': labels}"
        )
    return given


def given_or_in_turn(experiment: Experiment, num: Size, given: Given) -> Given:
    """The given entries; without labels, these go through the classes in turn."""
    return {**classes_in_turn(experiment, num), **given_entries(given)}


def classes_in_turn(experiment: Experiment, num: Size) -> Given:
    """Labels `[num]` that go through the classes, where the data has classes."""
    classes = experiment.dataset.spec.classes
    return {"y": jnp.arange(num) % classes} if classes else {}
