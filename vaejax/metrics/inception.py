"""The Inception network of the FID: its features of images, with weights from a file.

The graph of TensorFlow's `inception-2015-12-05` [Szegedy et al. 2016], whose features
[Heusel et al. 2017] measure by, as pytorch-fid and torch-fidelity rebuilt it. It is
not torchvision's `inception_v3`: average pools leave padding out of the count, the last
block has a maximum in its place, and weights are others. Tensors have the names and
shapes that PyTorch gives them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, UInt8

from vaejax.types import Array

SIDE = 299
FEATURES = 2048
EPSILON = 1e-3
"""Added to variances by the batch normalizations."""


class Unit(NamedTuple):
    """A convolution without bias, its batch normalization, and a ReLU."""

    name: str
    outputs: int
    height: int = 1
    width: int = 1
    stride: int = 1
    padding: str = "SAME"


class Pool(NamedTuple):
    """A window of 3x3: its mean, of what is inside the image, or its maximum."""

    mean: bool = False
    stride: int = 1


class Fork(NamedTuple):
    """Units of the same input, side by side."""

    units: tuple[Unit, ...]


Step = Unit | Pool | Fork
Branches = tuple[tuple[Step, ...], ...]


def square(name: str, outputs: int, side: int, stride: int = 1) -> Unit:
    """A unit of a square window; one that halves the image has no padding."""
    padding = "VALID" if stride > 1 else "SAME"
    return Unit(name, outputs, side, side, stride, padding)


def block_35(pooled: int) -> Branches:
    """Branches over maps of 35x35."""
    return (
        (Unit("branch1x1", 64),),
        (Unit("branch5x5_1", 48), square("branch5x5_2", 64, 5)),
        (
            Unit("branch3x3dbl_1", 64),
            square("branch3x3dbl_2", 96, 3),
            square("branch3x3dbl_3", 96, 3),
        ),
        (Pool(mean=True), Unit("branch_pool", pooled)),
    )


def block_to_17() -> Branches:
    """Branches that halve maps of 35x35."""
    return (
        (square("branch3x3", 384, 3, stride=2),),
        (
            Unit("branch3x3dbl_1", 64),
            square("branch3x3dbl_2", 96, 3),
            square("branch3x3dbl_3", 96, 3, stride=2),
        ),
        (Pool(stride=2),),
    )


def block_17(inner: int) -> Branches:
    """Branches over maps of 17x17."""
    return (
        (Unit("branch1x1", 192),),
        (
            Unit("branch7x7_1", inner),
            Unit("branch7x7_2", inner, 1, 7),
            Unit("branch7x7_3", 192, 7, 1),
        ),
        (
            Unit("branch7x7dbl_1", inner),
            Unit("branch7x7dbl_2", inner, 7, 1),
            Unit("branch7x7dbl_3", inner, 1, 7),
            Unit("branch7x7dbl_4", inner, 7, 1),
            Unit("branch7x7dbl_5", 192, 1, 7),
        ),
        (Pool(mean=True), Unit("branch_pool", 192)),
    )


def block_to_8() -> Branches:
    """Branches that halve maps of 17x17."""
    return (
        (Unit("branch3x3_1", 192), square("branch3x3_2", 320, 3, stride=2)),
        (
            Unit("branch7x7x3_1", 192),
            Unit("branch7x7x3_2", 192, 1, 7),
            Unit("branch7x7x3_3", 192, 7, 1),
            square("branch7x7x3_4", 192, 3, stride=2),
        ),
        (Pool(stride=2),),
    )


def block_8(pool: Pool) -> Branches:
    """Branches over maps of 8x8."""

    def fork(name: str) -> Fork:
        return Fork((Unit(f"{name}a", 384, 1, 3), Unit(f"{name}b", 384, 3, 1)))

    return (
        (Unit("branch1x1", 320),),
        (Unit("branch3x3_1", 384), fork("branch3x3_2")),
        (
            Unit("branch3x3dbl_1", 448),
            square("branch3x3dbl_2", 384, 3),
            fork("branch3x3dbl_3"),
        ),
        (pool, Unit("branch_pool", 192)),
    )


STEM: tuple[Step, ...] = (
    square("Conv2d_1a_3x3", 32, 3, stride=2),
    Unit("Conv2d_2a_3x3", 32, 3, 3, padding="VALID"),
    square("Conv2d_2b_3x3", 64, 3),
    Pool(stride=2),
    Unit("Conv2d_3b_1x1", 80),
    Unit("Conv2d_4a_3x3", 192, 3, 3, padding="VALID"),
    Pool(stride=2),
)
BLOCKS: dict[str, Branches] = {
    "Mixed_5b": block_35(32),
    "Mixed_5c": block_35(64),
    "Mixed_5d": block_35(64),
    "Mixed_6a": block_to_17(),
    "Mixed_6b": block_17(128),
    "Mixed_6c": block_17(160),
    "Mixed_6d": block_17(160),
    "Mixed_6e": block_17(192),
    "Mixed_7a": block_to_8(),
    "Mixed_7b": block_8(Pool(mean=True)),
    "Mixed_7c": block_8(Pool()),
}


class Inception(nn.Module):
    """Images to the 2048 features of the last pool; parameters by PyTorch's names."""

    @nn.compact
    def __call__(
        self, images: UInt8[Array, "batch height width 3"]
    ) -> Float[Array, "batch 2048"]:
        x = (resized(images, SIDE) - 128) / 128
        x = self._follow("", STEM, x)
        for name, branches in BLOCKS.items():
            ends = [self._follow(f"{name}.", steps, x) for steps in branches]
            x = jnp.concatenate(ends, axis=-1)
        return x.mean((1, 2))

    def _follow(self, prefix: str, steps: Sequence[Step], x: Array) -> Array:
        """What steps make of x, one after the other."""
        for step in steps:
            if isinstance(step, Pool):
                x = pool_of(step, x)
            elif isinstance(step, Fork):
                sides = [self._unit(prefix, unit, x) for unit in step.units]
                x = jnp.concatenate(sides, axis=-1)
            else:
                x = self._unit(prefix, step, x)
        return x

    def _unit(self, prefix: str, unit: Unit, x: Array) -> Array:
        name = f"{prefix}{unit.name}"
        shape = (unit.outputs, x.shape[-1], unit.height, unit.width)
        kernel = self.param(f"{name}.conv.weight", nn.initializers.zeros, shape)
        scale, shift, mean, variance = (
            self.param(f"{name}.bn.{end}", nn.initializers.ones, (unit.outputs,))
            for end in ("weight", "bias", "running_mean", "running_var")
        )
        x = lax.conv_general_dilated(
            x,
            kernel,
            (unit.stride, unit.stride),
            unit.padding,
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
        )
        scale = scale / jnp.sqrt(variance + EPSILON)
        shift = shift - mean * scale
        return nn.relu(x * scale[None, None, None] + shift[None, None, None])


def pool_of(pool: Pool, x: Array) -> Array:
    """The pool of x: with padding where it keeps the size, without where it halves."""
    window, strides = (3, 3), (pool.stride, pool.stride)
    padding = "SAME" if pool.stride == 1 else "VALID"
    if pool.mean:
        return nn.avg_pool(x, window, strides, padding, count_include_pad=False)
    return nn.max_pool(x, window, strides, padding)


def resized(images: UInt8[Array, "batch h w c"], side: int) -> Array:
    """Bilinear resizing as TensorFlow 1 does it, float32 `[batch, side, side, c]`.

    Pixel i of the result is at i * size / side of the image: corners are not aligned,
    centres neither, and nothing is averaged where an image becomes smaller.
    """
    x = images.astype(jnp.float32)
    for axis in (2, 1):
        size = x.shape[axis]
        places = np.arange(side, dtype=np.float32) * np.float32(size / side)
        low = places.astype(np.int32)
        high = np.minimum(low + 1, size - 1)
        others = tuple(n for n in range(x.ndim) if n != axis)
        share = np.expand_dims(places - low, others)
        start = jnp.take(x, low, axis)
        x = start + (jnp.take(x, high, axis) - start) * share
    return x
