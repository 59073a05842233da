"""The convolutions of VGG16, and the layers of them that LPIPS compares.

Weights have the names and shapes that torchvision's `vgg16` gives them
[Simonyan & Zisserman 2015, table 1, D]: `features.0.weight` `[64, 3, 3, 3]` and so on.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from vaejax.types import Array

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Outputs of the 3x3 convolutions between the pools."""
LEAST_SIDE = 16
"""The narrowest image that has a pixel left after four pools."""
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
"""The scaling layer of LPIPS, for images in [-1, 1], in front of the network: its
numbers are nearly ImageNet's means and deviations."""


def vgg_layers() -> tuple[tuple[str, ...], ...]:
    """The names of the convolutions of each stage, as torchvision counts them: each
    has a ReLU behind it, and each stage a pool.
    """
    found, number = [], 0
    for stage in STAGES:
        found.append(tuple(f"features.{number + 2 * n}" for n in range(len(stage))))
        number += 2 * len(stage) + 1
    return tuple(found)


def vgg_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name."""
    shapes, inputs = {}, 3
    for names, stage in zip(vgg_layers(), STAGES, strict=True):
        for name, outputs in zip(names, stage, strict=True):
            shapes[f"{name}.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{name}.bias"] = (outputs,)
            inputs = outputs
    return shapes


def vgg_maps(
    weights: Mapping[str, Array], x: Float[Array, "batch height width channels"]
) -> tuple[Array, ...]:
    """The last map of each stage after its ReLU (relu1_2 to relu5_3), as LPIPS has it.

    Args:
      weights: by torchvision's names.
      x: images in [0, 1], of three channels, or of one, which is repeated.
    """
    x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
    x = (2 * x - 1 - SHIFT[None, None, None]) / SCALE[None, None, None]
    maps = []
    for number, names in enumerate(vgg_layers()):
        if number:
            x = nn.max_pool(x, (2, 2), (2, 2))
        for name in names:
            x = lax.conv_general_dilated(
                x,
                weights[f"{name}.weight"],
                (1, 1),
                ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "OIHW", "NHWC"),
            )
            x = nn.relu(x + weights[f"{name}.bias"][None, None, None])
        maps.append(x)
    return tuple(maps)
