"""The loop that a benchmark is held against: an IWAE written by hand in JAX.

Nothing of this package is used. It is what one writes who wants speed and nothing
else: `jit` of a `lax.scan`, whole arrays, optax; no masks, no other terms to log.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax.types import Array, ArrayLike, Key


class Sizes(NamedTuple):
    """An IWAE's sizes: `hidden` are mirrored in the decoder."""

    hidden: Sequence[int]
    latents: int
    batch: int
    samples: int
    pixels: int = 784

    def encoder(self) -> list[tuple[int, int]]:
        """Inputs and outputs of its layers; the last gives means and log variances."""
        return dense_shapes(self.pixels, *self.hidden, 2 * self.latents)

    def decoder(self) -> list[tuple[int, int]]:
        """Inputs and outputs of its layers."""
        return dense_shapes(self.latents, *reversed(self.hidden), self.pixels)


def dense_shapes(*widths: int) -> list[tuple[int, int]]:
    """Inputs and outputs of dense layers between these widths."""
    return list(pairwise(widths))


Layers = list[tuple[Array, Array]]
Handmade = Callable[[Any, ArrayLike], tuple[Any, Array]]


def by_hand(sizes: Sizes, images: np.ndarray) -> tuple[Any, Handmade]:
    """The first state, and the compiled loop over indices `[steps, batch]`.

    Args:
      sizes: the network, the batch and the number k of samples.
      images: grey levels `[examples, pixels]`, uint8, which each step makes bits of.
    """
    keys = jax.random.split(jax.random.key(0), 2)
    shapes = sizes.encoder(), sizes.decoder()
    params = [first_layers(key, of) for key, of in zip(keys, shapes, strict=True)]
    optimizer, x = optax.adam(1e-3), jnp.asarray(images)

    def step(state: Any, index: Array) -> tuple[Any, Array]:
        params, moments, number = state
        noise, draws = jax.random.split(jax.random.fold_in(jax.random.key(1), number))
        grey = x[index].astype(jnp.float32) / 255
        bits = (jax.random.uniform(noise, grey.shape) < grey).astype(jnp.float32)
        loss, slope = jax.value_and_grad(bound_loss)(params, bits, draws, sizes)
        updates, moments = optimizer.update(slope, moments)
        return (optax.apply_updates(params, updates), moments, number + 1), loss

    loop = jax.jit(lambda state, xs: jax.lax.scan(step, state, xs), donate_argnums=0)
    return (params, optimizer.init(params), jnp.zeros((), jnp.int32)), loop


def first_layers(key: Key, sizes: Sequence[tuple[int, int]]) -> Layers:
    """Weights of variance 1 / inputs, and biases of 0."""
    keys = jax.random.split(key, len(sizes))
    return [
        (jax.random.normal(key, (i, o)) * i**-0.5, jnp.zeros(o))
        for key, (i, o) in zip(keys, sizes, strict=True)
    ]


def through(layers: Layers, x: Array) -> Array:
    """Dense layers with tanh between them."""
    for number, (weight, bias) in enumerate(layers):
        x = (jnp.tanh(x) if number else x) @ weight
        x = x + jnp.broadcast_to(bias, x.shape)
    return x


def bound_loss(params: list[Layers], x: Array, key: Key, sizes: Sizes) -> Array:
    """The negative bound of k samples, nats [Burda et al. 2016, eq. 8]."""
    encoder, decoder = params
    mean, log_variance = jnp.split(through(encoder, x), 2, -1)
    noise = jax.random.normal(key, (sizes.samples, *mean.shape))
    z = mean[None] + jnp.exp(log_variance / 2)[None] * noise
    logits = through(decoder, z)
    softplus = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    log_px = (x[None] * logits - softplus).sum(-1)
    log_ratio = 0.5 * (noise**2 - z**2 + log_variance[None]).sum(-1)
    log_w = log_px + log_ratio
    return -(jax.nn.logsumexp(log_w, 0) - jnp.log(sizes.samples)).mean()
