"""Uniform noise of a whole batch of images, with JAX's own bits but faster on CPU."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.types import Array, Key

TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
ONE = np.uint32(0x3F800000)
"""The bits of 1.0 in float32."""


def uniform(key: Key, shape: tuple[int, ...]) -> Array:
    """`jax.random.uniform(key, shape)`, bit for bit.

    On CPU JAX computes Threefry's twenty rounds as a loop of passes over memory, to
    compile faster; here they are one pass, which takes less than half of the time. The
    noise of a batch of images is long enough for that to show in a training step.
    """
    known = str(jax.random.key_impl(key)) == "threefry2x32"
    if not known or math.prod(shape) >= 2**32:
        return jax.random.uniform(key, shape)
    return jax.lax.platform_dependent(
        key,
        cpu=lambda key: in_one_pass(key, shape),
        default=lambda key: jax.random.uniform(key, shape),
    )


def in_one_pass(key: Key, shape: tuple[int, ...]) -> Array:
    """Floats in [0, 1) of 23 bits each; number n encrypts the counter n.

    As a loop over two halves: else XLA would compute the noise again in each operation
    that reads it, for each importance sample.
    """
    size = math.prod(shape)
    half = -(-size // 2)

    def floats(start: Array) -> Array:
        counts = jax.lax.iota(jnp.uint32, half) + jnp.broadcast_to(start, half)
        left, right = threefry(key, counts)
        bits = (left ^ right) >> np.uint32(9) | ONE
        return jax.lax.bitcast_convert_type(bits, jnp.float32) - 1

    halves = jax.lax.map(floats, np.array([0, half], np.uint32))
    return halves.reshape(-1)[:size].reshape(shape)


def threefry(key: Key, counts: Array) -> tuple[Array, Array]:
    """Threefry-2x32 of 20 rounds, of the words (0, counts) [Salmon et al. 2011]."""
    first, second = jax.random.key_data(key)
    words = [
        jnp.broadcast_to(word, counts.shape)
        for word in (first, second, first ^ second ^ PARITY)
    ]
    left, right = words[0], words[1] + counts
    for group in range(5):
        for turn in TURNS[group % 2]:
            left = left + right
            right = right << np.uint32(turn) | right >> np.uint32(32 - turn)
            right = left ^ right
        left = left + words[(group + 1) % 3]
        right = right + words[(group + 2) % 3] + np.uint32(group + 1)
    return left, right
