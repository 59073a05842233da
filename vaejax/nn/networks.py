"""Bodies of encoders and decoders. They know shapes and nothing of probability.

An encoder body maps `x` `[batch, *shape]`, and a condition `c` `[batch, conditions]`
where there is one, to features: a vector `[batch, features]` or a map `[batch, height,
width, channels]`; its `features` are x itself and what each layer makes of it. A
decoder body maps `z`, `[..., latents]` or a map, to `[..., *shape]` and accepts leading
sample axes on z.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn

from vaejax.nn.gated import GatedDense
from vaejax.nn.layers import (
    Activation,
    Dropout,
    Norm,
    append_condition,
    conv,
    dense,
    double,
    halve,
    kernel_norm,
    linear,
    recomputes,
    residual,
)
from vaejax.nn.starts import LECUN, Start
from vaejax.types import Array

Layers = tuple[Array, ...]


class MLP(nn.Module):
    """Dense layers, each followed by the activation; no layers is the identity.

    If they are `gated`, each is h * sigmoid(g) and there is no other activation.
    """

    hidden: Sequence[int] = (512,)
    activation: Activation = nn.relu
    dropout: float = 0.0
    norm: str = "none"
    start: Start = LECUN
    gated: bool = False

    @nn.compact
    def features(self, x: Array) -> Layers:
        layers = [x]
        for width in self.hidden:
            x = self._layer(width, x)
            x = Dropout(self.dropout)(x)
            layers.append(x)
        return tuple(layers)

    def _layer(self, width: int, x: Array) -> Array:
        if self.gated:
            return linear(GatedDense(width, self.start), self.norm, x)
        return self.activation(
            linear(dense(width, x.shape[-1], self.start), self.norm, x)
        )

    def __call__(self, x: Array) -> Array:
        return self.features(x)[-1]


class FlatEncoder(nn.Module):
    """An MLP over all entries of an example: images and tables alike."""

    mlp: MLP

    def features(self, x: Array, c: Array | None = None) -> Layers:
        _, *layers = self.mlp.features(append_condition(x.reshape(x.shape[0], -1), c))
        return (x, *layers)

    def __call__(self, x: Array, c: Array | None = None) -> Array:
        return self.mlp(append_condition(x.reshape(x.shape[0], -1), c))


def by_rows(layers: Callable[[Array], Array], z: Array) -> Array:
    """Layers applied to z `[samples, batch, ...]` with both leading axes as one.

    Of a product with two batch axes XLA's CPU backend transposes the gradient. Examples
    go first, so that devices which part these part the rows in the same way.
    """
    if z.ndim != 3:
        return layers(z)
    samples, batch, width = z.shape
    out = layers(z.swapaxes(0, 1).reshape(samples * batch, width))
    return out.reshape(batch, samples, -1).swapaxes(0, 1)


class FlatDecoder(nn.Module):
    """An MLP, and one linear layer to `shape`."""

    mlp: MLP
    shape: Sequence[int]
    start: Start = LECUN

    @nn.compact
    def __call__(self, z: Array) -> Array:
        def layers(rows: Array) -> Array:
            h = self.mlp(rows)
            return self.start.dense(math.prod(self.shape), h.shape[-1])(h)

        out = by_rows(layers, z)
        return out.reshape(*z.shape[:-1], *self.shape)


class ConvEncoder(nn.Module):
    """Convolutions that halve the image, residual blocks after each, a dense layer.

    With `hidden` None there is no dense layer, and the features are the last map. Any
    height and width: a stage maps n pixels to ceil(n / 2). A condition enters as
    constant planes beside the channels. With `remat` residual blocks are computed again
    for the gradient instead of being kept [Chen et al. 2016].
    """

    channels: Sequence[int] = (32, 64)
    hidden: int | None = 256
    blocks: int = 0
    norm: str = "none"
    activation: Activation = nn.relu
    remat: bool = False

    @nn.compact
    def features(self, x: Array, c: Array | None = None) -> Layers:
        block = residual(self.norm, self.activation, recomputes(self, self.remat))
        layers = [x]
        x = append_condition(x, None if c is None else c[:, None, None])
        for width in self.channels:
            x = linear(conv(width), self.norm, halve(x))
            x = self.activation(x)
            for _ in range(self.blocks):
                x = block(x)
            layers.append(x)
        if self.hidden is None:
            return tuple(layers)
        x = x.reshape(x.shape[0], -1)
        norm = kernel_norm(self.norm)
        return (*layers, self.activation(linear(dense(self.hidden), norm, x)))

    def __call__(self, x: Array, c: Array | None = None) -> Array:
        return self.features(x, c)[-1]


def map_sizes(height: int, width: int, stages: int) -> list[tuple[int, int]]:
    """Height and width of the image, and of the map after each stage that halves it."""
    sizes = [(height, width)]
    for _ in range(stages):
        height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append((height, width))
    return sizes


class ConvDecoder(nn.Module):
    """The mirror of `ConvEncoder`, ending at `shape` `(height, width, channels)`.

    A stage doubles both sides and crops to the size that the encoder had there, so odd
    sizes come out exactly. With `hidden` None it begins with a map of the height and
    width that the encoder ends with, and any number of channels.
    """

    shape: Sequence[int]
    channels: Sequence[int] = (32, 64)
    hidden: int | None = 256
    blocks: int = 0
    norm: str = "none"
    activation: Activation = nn.relu
    remat: bool = False

    @nn.compact
    def __call__(self, z: Array) -> Array:
        height, width, outputs = self.shape
        sizes = map_sizes(height, width, len(self.channels))
        deepest = self.channels[-1]
        block = residual(self.norm, self.activation, recomputes(self, self.remat))
        if self.hidden is None:
            x = self.activation(conv(deepest)(z))
        else:
            x = self.activation(dense(self.hidden)(z))
            x = self.activation(dense(math.prod(sizes[-1]) * deepest)(x))
            x = x.reshape(*z.shape[:-1], *sizes[-1], deepest)
        widths = (self.channels[0], *self.channels[:-1])
        for size, features in zip(sizes[-2::-1], reversed(widths), strict=True):
            for _ in range(self.blocks):
                x = block(x)
            x = double(conv(4 * features)(x), *size)
            x = self.activation(Norm(self.norm)(x))
        return nn.Conv(outputs, (3, 3))(x)
