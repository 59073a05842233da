"""Maps whose parameters are computed of other latents: autoregressive, and coupling.

Their networks are arrays, too: kernels and biases, so that a distribution that holds
them is a tree of arrays and calls no module.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.types import Array

LARGEST_LOG_SCALE = 2.0
"""Bound of |log scale| in one coupling or autoregressive map of a prior."""


class Dense(NamedTuple):
    """Layers x @ kernel + bias with ELU between, as arrays.

    `context` `[batch, width]`, if any, is added before the first activation.
    """

    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]
    context: Array | None = None

    def __call__(self, x: Array) -> Array:
        last = len(self.kernels) - 1
        for number, (kernel, bias) in enumerate(
            zip(self.kernels, self.biases, strict=True)
        ):
            x = jnp.matmul(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))
            if number == 0 and self.context is not None:
                x = x + self.context
            x = jax.nn.elu(x) if number < last else x
        return x


class InverseAutoregressive(NamedTuple):
    """y = g z + (1 - g) m, gates g in (0, 1); g_i and m_i depend on z_1, ..., z_(i-1).

    [Kingma et al. 2016, eq. 14]. The network gives m and the logits of g.
    """

    network: Dense

    @property
    def closed(self) -> bool:
        return False

    def forward(self, z: Array) -> tuple[Array, Array]:
        mean, gate = jnp.split(self.network(z), 2, -1)
        y = jax.nn.sigmoid(gate) * z + jax.nn.sigmoid(-gate) * mean
        return y, jax.nn.log_sigmoid(gate).sum(-1)

    def inverse(self, y: Array) -> tuple[Array, Array]:
        """A pass for each latent: the first i are right after i passes."""

        def improve(_: Array | int, z: Array) -> Array:
            mean, gate = jnp.split(self.network(z), 2, -1)
            return (y - jax.nn.sigmoid(-gate) * mean) / jax.nn.sigmoid(gate)

        z = jax.lax.fori_loop(0, y.shape[-1], improve, jnp.zeros_like(y))
        return z, self.forward(z)[1]


class MaskedAutoregressive(NamedTuple):
    """y_i = m_i + z_i exp(a_i), of y_1, ..., y_(i-1) [Papamakarios et al. 2017, eq. 4].

    The density of y takes one pass, a draw a pass for each latent.
    """

    network: Dense

    @property
    def closed(self) -> bool:
        return True

    def forward(self, z: Array) -> tuple[Array, Array]:
        def improve(_: Array | int, y: Array) -> Array:
            mean, log_scale = self._parameters(y)
            return mean + z * jnp.exp(log_scale)

        y = jax.lax.fori_loop(0, z.shape[-1], improve, jnp.zeros_like(z))
        return y, self._parameters(y)[1].sum(-1)

    def inverse(self, y: Array) -> tuple[Array, Array]:
        mean, log_scale = self._parameters(y)
        z = (y - mean) * jnp.exp(-log_scale)
        return z, log_scale.sum(-1)

    def _parameters(self, y: Array) -> tuple[Array, Array]:
        mean, raw = jnp.split(self.network(y), 2, -1)
        return mean, bounded(raw)


class Coupling(NamedTuple):
    """One half of z is scaled and shifted by what the other says [Dinh et al. 2017].

    The network reads the half that stays, the first.
    """

    network: Dense

    @property
    def closed(self) -> bool:
        return True

    def forward(self, z: Array) -> tuple[Array, Array]:
        kept, moved = self._halves(z)
        shift, log_scale = self._parameters(kept)
        moved = moved * jnp.exp(log_scale) + shift
        return self._joined(kept, moved), log_scale.sum(-1)

    def inverse(self, y: Array) -> tuple[Array, Array]:
        kept, moved = self._halves(y)
        shift, log_scale = self._parameters(kept)
        moved = (moved - shift) * jnp.exp(-log_scale)
        return self._joined(kept, moved), log_scale.sum(-1)

    def _parameters(self, kept: Array) -> tuple[Array, Array]:
        shift, raw = jnp.split(self.network(kept), 2, -1)
        return shift, bounded(raw)

    def _halves(self, z: Array) -> tuple[Array, Array]:
        size = kept_size(z.shape[-1])
        return z[..., :size], z[..., size:]

    def _joined(self, kept: Array, moved: Array) -> Array:
        return jnp.concatenate([kept, moved], -1)


def kept_size(latents: int) -> int:
    """Latents that a coupling keeps: half of them."""
    return latents // 2


def bounded(raw: Array) -> Array:
    """Log scales within `LARGEST_LOG_SCALE`: no density runs off at the start."""
    return LARGEST_LOG_SCALE * jnp.tanh(raw / LARGEST_LOG_SCALE)


def autoregressive_masks(latents: int, hidden: Sequence[int]) -> list[np.ndarray]:
    """0 or 1 for each weight of a MADE [Germain et al. 2015, eq. 8-9].

    Outputs come in pairs: `[latents, latents]`, of which the i-th each depend on the
    inputs before i alone.
    """
    order = np.arange(1, latents + 1)
    degrees = [order]
    for width in hidden:
        degrees.append(np.arange(width) % max(latents - 1, 1) + 1)
    masks = [
        (below[:, None] <= above[None]).astype(np.float32)
        for below, above in pairwise(degrees)
    ]
    last = (degrees[-1][:, None] < order[None]).astype(np.float32)
    return [*masks, np.concatenate([last, last], 1)]
