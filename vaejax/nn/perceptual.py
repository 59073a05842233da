"""Distances between images in the features of a frozen network."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.types import Array

Maps = tuple[Array, ...]
EPSILON = 1e-10
"""Added to the lengths of features by the authors' code of [Zhang et al. 2018]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Perceptual:
    """A frozen network, and the distance of images in its features.

    Its weights are no part of a model and have no gradient: x has one. They are
    constants of each compiled program that uses them, of 59 MB for VGG16. Two records
    are equal where they are the same object, so that functions that hold one can be
    keys of compiled functions.
    """

    name: str
    """The name of the distance: lpips, or that of the run's own features."""
    digest: str
    """The digest of the weights, 16 hexadecimal digits."""
    maps: Callable[[Any, Array], Maps]
    """`maps(weights, x)`: a map `[batch, h, w, channels]` of each layer, or a vector
    `[batch, features]`, of images `[batch, height, width, channels]` in [0, 1]."""
    weights: Any
    """The weights of the network: a pytree of arrays."""
    channels: tuple[Array, ...] | None = None
    """Weights of the channels of each layer, `[channels]`; without them, all are 1."""

    def features(self, x: Float[Array, "batch height width channels"]) -> Maps:
        """The maps of each layer, of images in [0, 1]; slopes are those of x alone."""
        # Constants of the program: XLA would compute with them while it compiles.
        weights = jax.lax.optimization_barrier(self.weights)
        return self.maps(jax.lax.stop_gradient(weights), x)

    def distance(
        self,
        x: Float[Array, "batch height width channels"],
        y: Float[Array, "batch height width channels"],
    ) -> Float[Array, " batch"]:
        """The distance of each pair of images in [0, 1] [Zhang et al. 2018, eq. 1]."""
        channels = self.channels
        if channels is not None:
            channels = jax.lax.stop_gradient(channels)
        return feature_distance(self.features(x), self.features(y), channels)


def feature_distance(
    ours: Sequence[Array], theirs: Sequence[Array], channels: Maps | None = None
) -> Float[Array, " batch"]:
    """Squared differences of features of unit length, [Zhang et al. 2018, eq. 1].

    At each place features are divided by their length over channels; squares are
    weighted by channel and summed over channels, averaged over places and summed over
    layers. With unit weights a layer's distance is between 0 and 4.

    Args:
      ours: maps `[batch, h, w, channels]` or vectors `[batch, features]` of layers.
      theirs: those of other images.
      channels: weights of the channels of each layer; without them, all are 1.

    Returns:
      `[batch]`.
    """
    total = jnp.zeros(len(ours[0]))
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        squares = jnp.square(unit_channels(a) - unit_channels(b))
        summed = squares.sum(-1) if channels is None else squares @ channels[layer]
        total += summed.mean(range(1, summed.ndim))
    return total


def unit_channels(features: Array) -> Array:
    """Features divided by their length over the last axis; zeros stay zeros.

    The slope of the length has no value where all channels are zero, as after ReLUs:
    it is zero here.
    """
    squared = jnp.square(features).sum(-1, keepdims=True)
    some = squared > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, squared, 1.0)), 0.0)
    return features / (length + EPSILON)
