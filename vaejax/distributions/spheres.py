"""Densities on the unit sphere of R^m, with respect to its area.

A von Mises-Fisher draw x = t mu + sqrt(1 - t^2) v has its cosine t in the density
proportional to exp(kappa t) (1 - t^2)^((m - 3) / 2). Here t is written by the angle a
of a Moebius map, t = (r + cos a) / (1 + r cos a), whose r is that of Wood's envelope
[Wood 1994]: then the density of a is, up to a constant,

    w(a) = sin(a)^(m - 2) exp((m - 1) (u / (1 + u) - log(1 + u))),  u = r cos a,

one smooth bell whatever kappa is. Normalizer, mean cosine and the slope of draws are
integrals over a by 64 nodes, without Bessel functions; the second factor is at most 1,
which is the probability of Wood's rejection to accept.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions.kl import kl_divergence as registered

from vaejax.types import Array, Key

MOST_AXES = 400
"""Largest m for which the nodes resolve the bell."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
UNIT_NODES, UNIT_WEIGHTS = (NODES + 1) / 2, WEIGHTS / 2
TRIES = 200
"""Rounds of rejection; each accepts more than half, so that only NaN needs all."""


class Bell(NamedTuple):
    """The density of the angle a: `r`, with a last axis of one, and m."""

    r: Array
    axes: int

    def log_acceptance(self, cosine: Array) -> Array:
        """The second factor of w, where cos a is known; at most 0."""
        u = self.r * cosine
        return (self.axes - 1) * (u / (1 + u) - jnp.log1p(u))

    def log_weight(self, angle: Array) -> Array:
        """log w(a)."""
        sine = jnp.maximum(jnp.sin(angle), 1e-30)
        return (self.axes - 2) * jnp.log(sine) + self.log_acceptance(jnp.cos(angle))

    def stretch(self, angle: Array) -> Array:
        """(t - r) / (1 - r^2) = cos a / (1 + r cos a)."""
        cosine = jnp.cos(angle)
        return cosine / (1 + self.r * cosine)

    def normalizer(self) -> Array:
        """log of the integral of w over [0, pi]."""
        angles, weights = full_range()
        return jax.nn.logsumexp(self.log_weight(angles), axis=-1, b=weights)

    def mean(self, values: Array) -> Array:
        """The mean over a of values at the nodes."""
        angles, weights = full_range()
        log_w = self.log_weight(angles) - self.normalizer()[..., None]
        return (weights * jnp.exp(log_w) * values).sum(-1)


def full_range() -> tuple[Array, Array]:
    """Nodes and weights of [0, pi]; the axis of nodes is the last of two."""
    angles = jnp.asarray(math.pi * UNIT_NODES, jnp.float32)[None]
    return angles, jnp.asarray(math.pi * UNIT_WEIGHTS, jnp.float32)[None]


def bell_of(concentration: Array, axes: int) -> Bell:
    """The bell of each concentration `[batch]`."""
    root = jnp.sqrt(jnp.square(axes - 1.0) + 4 * jnp.square(concentration))
    return Bell((2 * concentration / (axes - 1 + root))[..., None], axes)


def one_less_square(concentration: Array, axes: int) -> Array:
    """1 - r^2, without cancellation."""
    root = jnp.sqrt(jnp.square(axes - 1.0) + 4 * jnp.square(concentration))
    return 2 * (axes - 1) / (axes - 1 + root)


def log_area(axes: int) -> float:
    """log of the area of the unit sphere of R^m; of R^1 it is two points."""
    return math.log(2) + axes / 2 * math.log(math.pi) - math.lgamma(axes / 2)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def cosine_at(concentration: Array, cosine: Array, axes: int) -> Array:
    """t where cos a is known, `[batch]`.

    Its slope by the concentration is that of t at its quantile, dt/dkappa =
    -dF/dkappa / f [Figurnov et al. 2018, eq. 5]: that of a draw, rejections included.
    """
    r = bell_of(concentration, axes).r[..., 0]
    return (r + cosine) / (1 + r * cosine)


@cosine_at.defjvp
def _(axes: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    concentration, cosine = primals
    value = cosine_at(concentration, cosine, axes)
    return value, quantile_slope(concentration, cosine, axes) * tangents[0]


def quantile_slope(concentration: Array, cosine: Array, axes: int) -> Array:
    """dt/dkappa at a quantile: the integral of (A - t) f over smaller t, by f(t)."""
    bell = bell_of(concentration, axes)
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))[..., None]
    angles, _ = full_range()
    middle = bell.mean(bell.stretch(angles))[..., None]
    # The integral over all is 0: over larger t it is the opposite, and the end that is
    # nearer has weights that fall from the angle on.
    far = angle > math.pi / 2
    end = jnp.where(far, math.pi, 0.0)
    between = angle + (end - angle) * jnp.asarray(UNIT_NODES, jnp.float32)[None]
    ratio = jnp.exp(bell.log_weight(between) - bell.log_weight(angle))
    weights = (end - angle) * jnp.asarray(UNIT_WEIGHTS, jnp.float32)[None]
    total = (weights * ratio * (middle - bell.stretch(between))).sum(-1)
    rest = one_less_square(concentration, axes)
    jacobian = jnp.sin(angle[..., 0]) / jnp.square(1 + bell.r[..., 0] * cosine)
    return jnp.square(rest) * jacobian * total


def accepted_cosines(key: Key, concentration: Array, axes: int) -> Array:
    """cos a by rejection from the uniform sphere [Wood 1994], `[batch]`."""
    bell = bell_of(concentration, axes)

    def again(state: tuple) -> Array:
        number, found, _ = state
        return ~jnp.all(found) & (number < TRIES)

    def propose(state: tuple) -> tuple:
        number, found, kept = state
        normal_key, uniform_key = jax.random.split(jax.random.fold_in(key, number))
        normal = jax.random.normal(normal_key, (*concentration.shape, axes))
        cosine = normal[..., 0] / jnp.linalg.norm(normal, axis=-1)
        chance = bell.log_acceptance(cosine[..., None])[..., 0]
        noise = jax.random.uniform(uniform_key, concentration.shape)
        new = ~found & (jnp.log(noise) < chance)
        return number + 1, found | new, jnp.where(new, cosine, kept)

    zeros = jnp.zeros_like(concentration)
    return jax.lax.while_loop(again, propose, (0, zeros > 0, zeros))[2]


class VonMisesFisher(dist.Distribution):
    """exp(kappa mu x) / C on the unit sphere [Davidson et al. 2018, eq. 4].

    Draws are differentiable in both parameters. `mean` is the mean direction mu, which
    is on the sphere as decoders expect it; E[x] is shorter.

    Args:
      loc: mu `[batch, m]`, unit vectors of two numbers or more.
      concentration: kappa `[batch]`, above 0.
    """

    arg_constraints = {}
    pytree_data_fields = ("loc", "concentration")
    support: Any = dist.constraints.sphere
    has_rsample: Any = True

    def __init__(self, loc: Array, concentration: Array) -> None:
        self.loc, self.concentration = loc, concentration
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape, axes = self.shape(sample_shape), self.event_shape[0]
        cosine_key, around_key = jax.random.split(key)
        loc = jnp.broadcast_to(self.loc, shape)
        concentration = jnp.broadcast_to(self.concentration, shape[:-1])
        kept = accepted_cosines(cosine_key, jax.lax.stop_gradient(concentration), axes)
        cosine = cosine_at(concentration, kept, axes)[..., None]
        around = jax.random.normal(around_key, shape)
        around -= (around * loc).sum(-1, keepdims=True) * loc
        around /= jnp.linalg.norm(around, axis=-1, keepdims=True)
        sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), 1e-12))
        return cosine * loc + sine * around

    def log_prob(self, value: Array) -> Array:
        cosine = (value * jnp.broadcast_to(self.loc, value.shape)).sum(-1)
        kappa = jnp.broadcast_to(self.concentration, cosine.shape)
        r = jnp.broadcast_to(self._bell.r[..., 0], cosine.shape)
        return kappa * (cosine - r) - jnp.broadcast_to(self._rest, cosine.shape)

    def entropy(self) -> Array:
        """-E[log p(x)], nats `[batch]`."""
        angles, _ = full_range()
        bell = self._bell
        # kappa (A - r) = (m - 1) E[u / (1 + u)], since kappa (1 - r^2) = (m - 1) r.
        away = bell.r[..., 0] * bell.mean(bell.stretch(angles))
        return self._rest - (self.event_shape[0] - 1) * away

    @property
    def mean(self) -> Array:
        return self.loc

    @property
    def mean_cosine(self) -> Array:
        """A = E[mu x], the length of E[x], `[batch]`."""
        angles, _ = full_range()
        bell = self._bell
        rest = one_less_square(self.concentration, bell.axes)
        return bell.r[..., 0] + rest * bell.mean(bell.stretch(angles))

    @property
    def variance(self) -> Array:
        length = self.mean_cosine[..., None]
        share = length / self.concentration[..., None]
        square = 1 - self.event_shape[0] * share - jnp.square(length)
        return share + square * jnp.square(self.loc)

    @property
    def _bell(self) -> Bell:
        return bell_of(self.concentration, self.event_shape[0])

    @property
    def _rest(self) -> Array:
        """log C - kappa r, which does not grow with kappa."""
        axes, bell = self.event_shape[0], self._bell
        rest = jnp.log(one_less_square(self.concentration, axes))
        return (axes - 1) / 2 * rest + bell.normalizer() + log_area(axes - 1)


class UniformSphere(dist.Distribution):
    """The uniform distribution on the unit sphere of R^m.

    Args:
      examples: the batch.
      axes: m.
    """

    arg_constraints = {}
    pytree_data_fields = ()
    support: Any = dist.constraints.sphere
    has_rsample: Any = True

    def __init__(self, examples: Any, axes: int) -> None:
        super().__init__((examples,), (axes,), validate_args=False)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        normal = jax.random.normal(key, self.shape(sample_shape))
        return normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)

    def log_prob(self, value: Array) -> Array:
        return jnp.full(value.shape[:-1], -log_area(self.event_shape[0]))


@registered.register(VonMisesFisher, UniformSphere)
def _(q: VonMisesFisher, p: UniformSphere) -> Array:
    return log_area(p.event_shape[0]) - q.entropy()
