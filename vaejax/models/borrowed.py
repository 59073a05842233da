"""Autoencoders of maps that were trained elsewhere, on images in [-1, 1], as ours are
asked: of images in [0, 1], which are cut off there when they are decoded.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.tree_util import Partial

from vaejax.distributions import Delta, Normal
from vaejax.distributions.codes import Codes, Quantized, UniformCodes
from vaejax.models.base import LatentModel
from vaejax.models.map_autoencoders import signed
from vaejax.types import Array, Batch, Distribution


def unit_images(x: Array) -> Distribution:
    """A point mass at images in [-1, 1], in [0, 1] and cut off there."""
    return Delta(jnp.clip((x + 1) / 2, 0, 1))


class BorrowedAutoencoder(LatentModel):
    """A `MapAutoencoder`, with a standard normal as its prior."""

    network: Any
    latents: tuple[int, int, int]
    """Height, width and channels of an image's latents."""

    def posterior(self, batch: Batch) -> Distribution:
        return self.network.posterior(signed(batch["x"]))

    def prior(self, batch: Batch) -> Distribution:
        return Normal(jnp.zeros((batch["x"].shape[0], *self.latents)), 1.0)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return unit_images(self.network.decode(z))


class BorrowedCodes(LatentModel):
    """A `VectorQuantizedMapAutoencoder`, all of whose codes are alike a priori."""

    network: Any
    sides: tuple[int, int]
    """Height and width of the map of codes."""

    def posterior(self, batch: Batch) -> Distribution:
        codes = self.network.codes_of(signed(batch["x"]))
        values = self.values_of(codes)
        return Quantized(values, values[..., None, :], codes)

    def prior(self, batch: Batch) -> Distribution:
        book = self.network.quantize()
        shape = (batch["x"].shape[0], *self.sides, 1)
        return UniformCodes(Partial(single_level, book), len(book), shape)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        return unit_images(self.network.decode(z))

    def values_of(self, codes: Codes) -> Array:
        """The map that `decode` takes, `[..., height, width, channels]`, of codes."""
        return self.network.values_of(codes)


def single_level(book: Array, codes: Codes) -> Array:
    """The vectors of codes with one level."""
    return book[codes[..., 0]]


def borrowed(network: nn.Module, shape: tuple[int, int, int]) -> LatentModel:
    """The model of a network, which has codes or not, for images of this shape."""
    encoder: Any = vars(network)["encoder"]
    height, width = (side // encoder.sizes.factor for side in shape[:2])
    if hasattr(network, "codes_of"):
        return BorrowedCodes(network, (height, width))
    return BorrowedAutoencoder(network, (height, width, encoder.outputs // 2))
