"""Invertible maps of latents, each with the log-determinant of its Jacobian.

A map is a record of arrays. Its parameters have the axes of the batch where each
example has its own; latents z are `[..., batch, latents]`, log-determinants `[...,
batch]`. `forward` is the direction in which latents are drawn.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from vaejax.types import Array

HALVINGS = 40
"""Halvings of an interval in which a root is looked for: beyond float32's digits."""


@runtime_checkable
class Bijection(Protocol):
    """An invertible map of latents.

    `closed` says whether the inverse is a formula, which can be differentiated; else it
    is searched for, or takes a pass for each latent.
    """

    @property
    def closed(self) -> bool: ...

    def forward(self, z: Array) -> tuple[Array, Array]:
        """y, and log |det dy/dz|."""
        ...

    def inverse(self, y: Array) -> tuple[Array, Array]:
        """z, and log |det dy/dz| there."""
        ...


class Planar(NamedTuple):
    """y = z + u tanh(w . z + b), with w . u > -1 [Rezende & Mohamed 2015, eq. 10]."""

    w: Array
    u: Array
    b: Array

    @property
    def closed(self) -> bool:
        return False

    def forward(self, z: Array) -> tuple[Array, Array]:
        u, slope = self._direction()
        bent = jnp.tanh(dot(self.w, z) + self.b)
        log_det = jnp.log1p(slope * (1 - jnp.square(bent)))
        return z + u * bent[..., None], log_det

    def inverse(self, y: Array) -> tuple[Array, Array]:
        u, slope = self._direction()
        along = root(
            lambda a: a + slope * jnp.tanh(a + self.b), dot(self.w, y), jnp.abs(slope)
        )
        z = y - u * jnp.tanh(along + self.b)[..., None]
        return z, self.forward(z)[1]

    def _direction(self) -> tuple[Array, Array]:
        """u, and w . u, which is above -1 for any parameters [appendix A.1]."""
        along = dot(self.w, self.u)
        size = jnp.sum(jnp.square(self.w), -1) + 1e-12
        slope = jax.nn.softplus(along) - 1
        return self.u + ((slope - along) / size)[..., None] * self.w, slope


class Householder(NamedTuple):
    """y = z - 2 v (v . z) / |v|^2: a reflection [Tomczak & Welling 2016, eq. 7]."""

    v: Array

    @property
    def closed(self) -> bool:
        return True

    def forward(self, z: Array) -> tuple[Array, Array]:
        size = jnp.sum(jnp.square(self.v), -1) + 1e-12
        share = 2 * dot(self.v, z) / size
        y = z - share[..., None] * self.v
        return y, jnp.zeros(y.shape[:-1])

    def inverse(self, y: Array) -> tuple[Array, Array]:
        return self.forward(y)


class Reversed(NamedTuple):
    """The latents in reverse order."""

    @property
    def closed(self) -> bool:
        return True

    def forward(self, z: Array) -> tuple[Array, Array]:
        return jnp.flip(z, -1), jnp.zeros(z.shape[:-1])

    def inverse(self, y: Array) -> tuple[Array, Array]:
        return self.forward(y)


class Sylvester(NamedTuple):
    """y = z + Q R tanh(S Q^T z + b) [van den Berg et al. 2018, eq. 13].

    Q `[batch, latents, m]` has orthonormal columns; R and S are upper triangular with
    diagonals in (-1, 1), so that the map is invertible (theorem 2).
    """

    q: Array
    r: Array
    s: Array
    b: Array

    @property
    def closed(self) -> bool:
        return False

    def forward(self, z: Array) -> tuple[Array, Array]:
        v = jnp.einsum("...dm,...d->...m", self.q, z)
        bent = jnp.tanh(jnp.einsum("...mn,...n->...m", self.s, v) + self.b)
        moved = jnp.einsum("...mn,...n->...m", self.r, bent)
        diagonal = diagonal_of(self.r) * diagonal_of(self.s)
        log_det = jnp.log1p(diagonal * (1 - jnp.square(bent))).sum(-1)
        return z + jnp.einsum("...dm,...m->...d", self.q, moved), log_det

    def inverse(self, y: Array) -> tuple[Array, Array]:
        target = jnp.einsum("...dm,...d->...m", self.q, y)
        m = self.b.shape[-1]

        def solve(step: Array | int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            """From the last row upwards: each has one unknown more."""
            row = m - 1 - step
            v, bent = carry
            r, s = self.r[..., row, :], self.s[..., row, :]
            rest = target[..., row] - jnp.sum(r * bent, -1)
            shift = jnp.sum(s * v, -1) + self.b[..., row]
            own, gain = r[..., row], s[..., row]
            found = root(
                lambda a: a + own * jnp.tanh(gain * a + shift), rest, jnp.abs(own)
            )
            bend = jnp.tanh(gain * found + shift)
            return v.at[..., row].set(found), bent.at[..., row].set(bend)

        nothing = jnp.zeros_like(target)
        _, bent = jax.lax.fori_loop(0, m, solve, (nothing, nothing))
        moved = jnp.einsum("...mn,...n->...m", self.r, bent)
        z = y - jnp.einsum("...dm,...m->...d", self.q, moved)
        return z, self.forward(z)[1]


def dot(a: Array, b: Array) -> Array:
    """The inner product over the last axis."""
    return jnp.sum(a * b, -1)


def diagonal_of(matrices: Array) -> Array:
    """The diagonals `[..., n]` of matrices `[..., n, n]`."""
    return jnp.diagonal(matrices, axis1=-2, axis2=-1)


def root(rising: Callable[[Array], Array], value: Array, margin: Array) -> Array:
    """a where the rising function is `value`; it is within `margin` of the value."""
    low, high = value - margin, value + margin

    def halve(_: Array | int, interval: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = interval
        middle = 0.5 * (low + high)
        above = rising(middle) > value
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    return 0.5 * (low + high)
