"""Layers that ask for permission instead of being told that they train.

BatchNorm uses and updates batch statistics where `batch_stats` is mutable, else its
running ones; Dropout drops where a `dropout` key is given. So the same `__call__`
serves training, evaluation and a player that does not own the part. In the same way the
hidden layers of bodies compute in the precision that whoever traces them asks for.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.errors import InputError
from vaejax.nn.starts import LECUN, Start
from vaejax.types import Array

Activation = Callable[[Array], Array]
NORMS = ("none", "batch", "group")
NORMAL = nn.initializers.lecun_normal()
MOMENTUM = 0.99
"""The share that a running average keeps of itself at each batch."""
PrecisionName = Literal["f32", "bf16"]
PRECISIONS: Mapping[PrecisionName, Any] = {"f32": None, "bf16": jnp.bfloat16}
"""The dtype that `bodies_in` takes for each setting."""
_precision: ContextVar[Any] = ContextVar("precision", default=None)
_rate: ContextVar[Any] = ContextVar("rate", default=None)


@contextlib.contextmanager
def bodies_in(dtype: Any) -> Iterator[None]:
    """Hidden layers that are traced here compute in `dtype`; None is float32.

    Their parameters, the statistics of their norms, and all that is read off a body
    (heads, likelihoods, losses) stay in float32.
    """
    token = _precision.set(dtype)
    try:
        yield
    finally:
        _precision.reset(token)


def hidden_dtype() -> Any:
    """The dtype in which hidden layers that are traced here compute; None is theirs."""
    return _precision.get()


@contextlib.contextmanager
def averages_at(rate: Array | None) -> Iterator[None]:
    """Running averages that are traced here move by `rate`; None is 1 - momentum.

    Where evaluation uses averaged parameters, the statistics beside them are averaged
    over the same steps: of a linear layer's output the mean is then exactly that under
    the averaged parameters.
    """
    token = _rate.set(rate)
    try:
        yield
    finally:
        _rate.reset(token)


def share_of_batch(module: nn.Module, momentum: float = MOMENTUM) -> Array:
    """Weight of the new batch in a running average; 1 for the first batch.

    An average that moves by a rate r holds after t batches weights that sum to
    mass = 1 - (1 - r)^t, the rest being its made-up start. Divided by the mass, as in
    Adam [Kingma & Ba 2015, sec. 3], it is the average that moves by r / mass. Counts
    the batch in `module`'s variable `mass`.
    """
    rate = _rate.get()
    rate = jnp.float32(1 - momentum) if rate is None else rate
    mass = module.variable("batch_stats", "mass", jnp.zeros, ())
    if not module.is_initializing():
        mass.value = mass.value + rate * (1 - mass.value)
    return rate / jnp.maximum(mass.value, rate)


def dense(width: int, inputs: int = 0, start: Start = LECUN) -> nn.Dense:
    """A dense layer within a body; `inputs` are numbers that it reads, for `start`."""
    return start.dense(width, inputs, hidden_dtype())


def conv(channels: int, kernel_init: Any = NORMAL) -> nn.Conv:
    """A 3x3 convolution within a body."""
    return nn.Conv(channels, (3, 3), dtype=hidden_dtype(), kernel_init=kernel_init)


class BatchNorm(nn.Module):
    """Batch normalization by permission [Ioffe & Szegedy 2015].

    Of the whole batch, also where each device has a part of it. The running statistics
    are averages of those of the batches alone, from the first batch on.
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        running = not self.is_mutable_collection("batch_stats")
        # Where statistics are only read, runs of older versions need hold no `mass`.
        kept: Any = MOMENTUM if running else 1 - share_of_batch(self)
        return nn.BatchNorm(
            running, momentum=kept, axis_name=batch_axis(), dtype=hidden_dtype()
        )(x)


def batch_axis() -> str | None:
    """The axis of devices that batches are split over by hand (shard_map, pmap)."""
    return next(iter(jax.sharding.get_abstract_mesh().manual_axes), None)


def sum_over_devices(arrays: Any) -> Any:
    """Sums over the devices that a batch is split over by hand; else as they are."""
    axis = batch_axis()
    return jax.lax.psum(arrays, axis) if axis else arrays


def mean_over_devices(arrays: Any) -> Any:
    """Means over the devices that a batch is split over by hand; else as they are."""
    axis = batch_axis()
    return jax.lax.pmean(arrays, axis) if axis else arrays


class Dropout(nn.Module):
    """Dropout by permission: the identity where no `dropout` key is given."""

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dropout(self.rate, deterministic=not self.has_rng("dropout"))(x)


class Norm(nn.Module):
    """The normalization called `kind`: none, batch, or group (of up to 8 channels)."""

    kind: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.kind == "batch":
            return BatchNorm()(x)
        if self.kind == "group":
            size = next(n for n in range(8, 0, -1) if x.shape[-1] % n == 0)
            # Over an image alone: by default the sample axes would be pooled, too.
            image = (-3, -2, -1)
            dtype = hidden_dtype()
            return nn.GroupNorm(None, size, reduction_axes=image, dtype=dtype)(x)
        if self.kind == "none":
            return x
        raise InputError(f"norm {self.kind!r} is unknown: choose of {', '.join(NORMS)}")


class Spectral(nn.Module):
    """A layer whose kernel has spectral norm 1 [Miyato et al. 2018].

    The kernel is read as a matrix `[all but the last side, last side]` and divided by
    an estimate of its largest singular value. A convolution by such a kernel can
    stretch its input by more than 1: by up to 3 with 3x3 kernels, as each number is
    read nine times. The estimate is of one power iteration from a stored vector, random
    at first, in every pass; passes that may write `batch_stats` store where it leads.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: Array) -> Array:
        iterate = self.is_mutable_collection("batch_stats")
        return nn.SpectralNorm(self.layer)(x, update_stats=iterate)


def linear(layer: nn.Module, norm: str, x: Array) -> Array:
    """A dense or convolutional layer with its norm: of its kernel, or of its output."""
    return Spectral(layer)(x) if norm == "spectral" else Norm(norm)(layer(x))


def kernel_norm(norm: str) -> str:
    """The norm of layers whose output keeps its scale: the kernel's, or none.

    Scores, above all: normalized over a batch of real examples, and over one of fakes,
    they would have the same mean.
    """
    return norm if norm == "spectral" else "none"


def append_condition(x: Array, c: Array | None) -> Array:
    """`x` `[..., n]` with the condition `c` `[..., m]`, if any, as `m` more entries."""
    if c is None:
        return x
    return jnp.concatenate([x, jnp.broadcast_to(c, (*x.shape[:-1], c.shape[-1]))], -1)


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))) [He et al. 2016, pre-activation].

    The last convolution starts at zero, so a fresh block is the identity.
    """

    norm: str = "group"
    activation: Activation = nn.silu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        h = self.activation(Norm(self.norm)(x))
        h = conv(channels)(h)
        h = self.activation(Norm(self.norm)(h))
        return x + conv(channels, nn.initializers.zeros)(h)


def residual(
    norm: str, activation: Activation, remat: bool
) -> Callable[[Array], Array]:
    """Applies a new residual block at each call, kept or computed again (remat)."""
    kind = nn.remat(ResidualBlock) if remat else ResidualBlock
    numbers = itertools.count()

    def block(x: Array) -> Array:
        # Named, because Flax calls a block that is computed again by another name.
        return kind(norm, activation, name=f"ResidualBlock_{next(numbers)}")(x)

    return block


def recomputes(module: nn.Module, remat: bool) -> bool:
    """Whether a module computes activations again for the gradient. There is none while
    parameters are drawn, and they are drawn together (`nn.drawing`) where no loop or
    remat hides them.
    """
    return remat and not module.is_initializing()


def halve(x: Array) -> Array:
    """2x2 blocks to depth: `[..., H, W, C]` to `[..., ceil(H/2), ceil(W/2), 4 C]`.

    A convolution of what this gives does the work of a strided one, and its gradient
    needs no dilated convolution, which is many times slower on CPUs.
    """
    *lead, height, width, channels = x.shape
    odd = [(0, 0)] * len(lead) + [(0, height % 2), (0, width % 2), (0, 0)]
    x = jnp.pad(x, odd)
    height, width = (height + 1) // 2, (width + 1) // 2
    x = x.reshape(*lead, height, 2, width, 2, channels)
    return jnp.moveaxis(x, -4, -3).reshape(*lead, height, width, 4 * channels)


def double(x: Array, height: int, width: int) -> Array:
    """The inverse of `halve`, cropped to `height` x `width` [Shi et al. 2016]."""
    *lead, rows, columns, channels = x.shape
    x = x.reshape(*lead, rows, columns, 2, 2, channels // 4)
    x = jnp.moveaxis(x, -3, -4).reshape(*lead, 2 * rows, 2 * columns, channels // 4)
    return x[..., :height, :width, :]
