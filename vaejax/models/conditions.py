"""Conditions of a part, read from the batch as `[batch, conditions]`."""

import dataclasses
import math
from typing import ClassVar, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp

from vaejax.errors import InputError
from vaejax.types import Array, Batch


class Label(nn.Module):
    """The label as one-hot; a dense layer of it is an embedding.

    Its entries have mean square 1, as those of z have: of the size of a plain one-hot,
    a label would begin as one weak input among many.

    `y` is int `[batch]`, where -1 is the null label (all zeros), or soft labels
    `[batch, classes]`, between which one may interpolate.
    """

    conditions: ClassVar[tuple[str, ...]] = ("y",)

    classes: int

    def __call__(self, batch: Batch) -> Array:
        if "y" not in batch:
            raise InputError(
                "the model is conditioned on labels: pass given={'y': labels}"
            )
        y = batch["y"]
        shares = y if y.ndim == 2 else nn.one_hot(y, self.classes)
        return math.sqrt(self.classes) * shares


@runtime_checkable
class Conditioned(Protocol):
    """A model, or a part of one, that is conditioned on entries of the batch.

    `conditions` names them: "y", or "context" and "seen".
    """

    conditions: ClassVar[tuple[str, ...]]


def conditions_of(module: nn.Module) -> tuple[str, ...]:
    """The entries of the batch that a model is conditioned on: its own and its parts'.

    Queries ask for these; whatever else a model reads has a default.
    """
    own = module.conditions if isinstance(module, Conditioned) else ()
    fields = [f.name for f in dataclasses.fields(module)]
    parts = [vars(module)[n] for n in fields if n not in ("parent", "name")]
    below = [conditions_of(part) for part in parts if isinstance(part, nn.Module)]
    return tuple(dict.fromkeys([*own, *(name for names in below for name in names)]))


def conditional(model: nn.Module) -> bool:
    """Whether what the model generates depends on a label."""
    return "y" in conditions_of(model)


def condition_of(condition: nn.Module | None, batch: Batch) -> Array | None:
    """The condition's value, where there is a condition."""
    return None if condition is None else condition(batch)


HIDDEN = -1.0  # for what is not seen; images are in [0, 1]


def completed(batch: Batch, guess: Array | float) -> Array:
    """The context with a guess pasted in where nothing is seen."""
    return jnp.where(batch["seen"] == 1, batch["context"], guess)
