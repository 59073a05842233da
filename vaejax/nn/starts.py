"""Initial weights of dense layers, as papers and their code have them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax.types import Array, Key

Initializer = Callable[..., Array]


def zero_bias(inputs: int) -> Initializer:
    """Biases of zero, whatever a layer reads."""
    del inputs
    return nn.initializers.zeros


def identity(key: Key, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """The kernel that changes nothing."""
    del key
    return jnp.eye(*shape, dtype=dtype)


def shrunk(start: Initializer, factor: float) -> Initializer:
    """Weights `factor` times those of `start`."""

    def draw(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return factor * start(key, shape, dtype)

    return draw


def normal_around(mean: float, deviation: float) -> Initializer:
    """Draws of N(mean, deviation^2)."""

    def draw(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return draw


def uniform_bias(inputs: int) -> Initializer:
    """Biases within 1 / sqrt(inputs), as PyTorch's layers begin."""
    limit = 1 / math.sqrt(inputs)

    def draw(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return draw


class Start(NamedTuple):
    """How kernel and bias of a layer begin; the bias by the number of its inputs."""

    kernel: Initializer
    bias: Callable[[int], Initializer] = zero_bias

    def dense(self, width: int, inputs: int, dtype: Any = None) -> nn.Dense:
        """A dense layer that begins so, of `inputs` numbers."""
        bias = self.bias(inputs)
        return nn.Dense(width, dtype=dtype, kernel_init=self.kernel, bias_init=bias)


def fixed_glorot(key: Key, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Glorot-uniform draws of NumPy's `RandomState(123)`, whatever the key.

    The code of Burda et al. 2016 seeds every layer so: layers of one shape begin alike.
    """
    del key
    limit = math.sqrt(6 / sum(shape))
    draws = np.random.RandomState(123).uniform(-limit, limit, shape)
    return jnp.asarray(draws, dtype)


LECUN = Start(nn.initializers.lecun_normal())
"""Flax's own."""
GLOROT = Start(nn.initializers.glorot_uniform())
"""Uniform within sqrt(6 / (inputs + outputs)) [Glorot & Bengio 2010, eq. 16]."""
FIXED_GLOROT = Start(fixed_glorot)
HE = Start(nn.initializers.variance_scaling(2, "fan_in", "normal"), uniform_bias)
"""Normal kernels of variance 2 / inputs [He et al. 2015, eq. 10], PyTorch's biases."""
within_inputs = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
TORCH = Start(within_inputs, uniform_bias)
"""Uniform within 1 / sqrt(inputs): PyTorch's own."""
torch_transposed = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
"""Kernels of PyTorch's transposed convolutions: uniform within 1 / sqrt(outputs)."""
