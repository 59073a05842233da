"""Kinds of data: the facts about an example that hold for all data sets of a kind.

A kind is one entry of `KINDS`. Code for every kind of data asks for these facts, or
looks the kind up in a table of its own with `by_kind`; it does not test the name.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import jax.numpy as jnp
import numpy as np

from vaejax.errors import InputError

T = TypeVar("T")


class Kind(NamedTuple):
    """The facts that all examples of a kind share."""

    axes: tuple[str, ...]
    """Names of the axes of an example."""
    stored: type[np.generic]
    """The type in which arrays of the data set hold an entry."""
    on_device: type
    """The type in which a raw batch holds an entry."""
    files: tuple[str, ...]
    """Endings of the files that hold samples, the usual one first."""
    scaled: bool = False
    """Whether entries are levels, which a model sees scaled to [0, 1]."""
    standardized: bool = False
    """Whether entries have units of their own, by the last axis: a model sees them in
    standard deviations from their mean."""
    named: bool = False
    """Whether the last axis is of columns, which have names and kinds."""

    @property
    def coded(self) -> bool:
        """Whether entries are whole numbers that a model sees as they are."""
        return not (self.scaled or self.standardized)


KINDS: Mapping[str, Kind] = {
    "image": Kind(
        ("height", "width", "channels"),
        np.uint8,
        jnp.uint8,
        (".png", ".npz"),
        scaled=True,
    ),
    "table": Kind(
        ("columns",),
        np.float64,
        jnp.float32,
        (".csv", ".npz"),
        standardized=True,
        named=True,
    ),
    "code map": Kind(("height", "width", "levels"), np.int32, jnp.int32, (".npz",)),
    "latent map": Kind(
        ("height", "width", "channels"),
        np.float32,
        jnp.float32,
        (".npz",),
        standardized=True,
    ),
}
"""The kinds of data, by the name in `Spec.kind`. Maps are those of another model's
latents; such latents that are vectors are a table."""


class Described(Protocol):
    """A description of data, such as `vaejax.data.spec.Spec`."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...


class Spatial(Described, Protocol):
    """A description that says the shape of an example, too."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def kind_of(spec: Described) -> Kind:
    """The kind of a data set; InputError where it is unknown."""
    if spec.kind not in KINDS:
        raise InputError(
            f"{spec.name} is of kind {spec.kind!r}: known are {', '.join(KINDS)}"
        )
    return KINDS[spec.kind]


def by_kind(spec: Described, table: Mapping[str, T], what: str, hint: str = "") -> T:
    """The entry of `table` for data of this kind.

    Raises:
      InputError: there is none: "`what` needs images: wine is a table", and a `hint`.
    """
    if spec.kind not in table:
        needed = " or ".join(f"{kind}s" for kind in table)
        raise InputError(f"{what} needs {needed}: {spec.name} is a {spec.kind}{hint}")
    return table[spec.kind]


def require_images(spec: Described, what: str, hint: str = "") -> None:
    """InputError where the data are no images: "`what` needs images: ..."."""
    by_kind(spec, {"image": None}, what, hint)


def divided_sides(spec: Spatial, factor: int) -> tuple[int, int]:
    """Height and width of images, both divided by `factor`.

    Raises:
      InputError: one of them does not divide, with a size that does.
    """
    height, width, *_ = spec.shape
    if height % factor or width % factor:
        side = max(min(height, width) // factor, 1) * factor
        raise InputError(
            f"images of {spec.name} are {height} x {width}, which does not divide by "
            f"{factor}: resize them, as by --image-size {side}"
        )
    return height // factor, width // factor


def with_channels(x: np.ndarray, spec: Described) -> np.ndarray:
    """`x` `[N, H, W, C]`, where that of one channel may lack its last axis."""
    axes = kind_of(spec).axes
    optional = axes[-1:] == ("channels",) and x.ndim == len(axes)
    return x[..., None] if optional else x
