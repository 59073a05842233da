"""The Poincare ball of curvature -c, and normal distributions wrapped on it.

Points are vectors with c |x|^2 < 1; formulas are those of [Mathieu et al. 2019, sec. 2
and appendix A]. Densities are with respect to the coordinates, as those of all latents
here; with respect to the ball's own volume they are lambda(x)^-m times as large.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.plain import Normal
from vaejax.distributions.properties import draw_with_log_prob
from vaejax.types import Array, Key

LARGEST = 1 - 1e-5
"""Largest sqrt(c) |x|: distances from the center end at 12 / sqrt(c) in float32."""
TINY = 1e-12


def inner_product(x: Array, y: Array) -> Array:
    """Inner products, with a last axis of one."""
    return (x * y).sum(-1, keepdims=True)


def length(x: Array) -> Array:
    """Norms with a last axis of one, and slopes at 0."""
    return jnp.sqrt(inner_product(x, x) + TINY)


def inside(x: Array, c: float) -> Array:
    """Points pulled into the ball where rounding puts them outside."""
    most = LARGEST / math.sqrt(c)
    return x * jnp.minimum(1.0, most / length(x))


def conformal(x: Array, c: float) -> Array:
    """lambda(x) = 2 / (1 - c |x|^2), with a last axis of one."""
    return 2 / (1 - c * inner_product(x, x))


def mobius_add(x: Array, y: Array, c: float) -> Array:
    """The addition of the ball, x + y where c is 0."""
    xy, xx, yy = inner_product(x, y), inner_product(x, x), inner_product(y, y)
    total = (1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y
    return total / (1 + 2 * c * xy + c**2 * xx * yy)


def exp_map(x: Array, v: Array, c: float) -> Array:
    """The end of the geodesic from x along the tangent v."""
    size = math.sqrt(c) * length(v)
    step = jnp.tanh(conformal(x, c) * size / 2) * v / size
    return inside(mobius_add(x, step, c), c)


def log_map(x: Array, y: Array, c: float) -> Array:
    """The tangent at x of the geodesic to y: the inverse of `exp_map`."""
    between = mobius_add(-x, y, c)
    size = math.sqrt(c) * length(between)
    reach = jnp.arctanh(jnp.minimum(size, LARGEST))
    return 2 / conformal(x, c) * reach * between / size


def poincare_distance(x: Array, y: Array, c: float) -> Array:
    """The length of the geodesic between x and y, `[...]`.

    arcosh(1 + 2 c |x - y|^2 / ((1 - c |x|^2)(1 - c |y|^2))) / sqrt(c), written by
    arsinh of half of it, which keeps small distances.
    """
    away = jnp.sqrt(c * conformal(x, c) * conformal(y, c) / 4) * length(x - y)
    return 2 * jnp.arcsinh(away)[..., 0] / math.sqrt(c)


def hyperplane_distance(x: Array, points: Array, normals: Array, c: float) -> Array:
    """Signed distances of x to geodesic hyperplanes, `[..., planes]`.

    Each goes through a point, orthogonal to a normal there [Mathieu et al. 2019, eq. 8;
    Ganea et al. 2018, theorem 5]; `points` and `normals` are `[planes, m]`.
    """
    lead = (1,) * (x.ndim - 1)
    points, normals = (a.reshape(*lead, *a.shape) for a in (points, normals))
    between = mobius_add(-points, x[..., None, :], c)
    top = 2 * math.sqrt(c) * inner_product(between, normals)
    bottom = (1 - c * inner_product(between, between)) * length(normals)
    return jnp.arcsinh(top / bottom)[..., 0] / math.sqrt(c)


def log_shrink(distance: Array) -> Array:
    """log(d / sinh d), without overflow, and with slopes at 0."""
    small = distance < 0.05
    d = jnp.where(small, 1.0, distance)
    log_sinh = d + jnp.log1p(-jnp.exp(-2 * d)) - math.log(2)
    return jnp.where(small, -jnp.square(distance) / 6, jnp.log(d) - log_sinh)


class WrappedNormal(dist.Distribution):
    """exp_mu(v / lambda(mu)), v ~ N(0, diag s^2) [Mathieu et al. 2019, sec. 3.2].

    `mean` is mu, the point where the tangent is.

    Args:
      loc: mu `[batch, m]`, in the ball.
      scale: s `[batch, m]`, of distances.
      c: the negative curvature, above 0.
    """

    arg_constraints = {}
    pytree_data_fields = ("loc", "scale")
    pytree_aux_fields = ("c",)
    has_rsample: Any = True

    def __init__(self, loc: Array, scale: Array, c: float) -> None:
        self.loc, self.scale, self.c = loc, scale, c
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def support(self) -> Any:
        """The ball, of which the cube around it is what numpyro has a name for."""
        edge = 1 / math.sqrt(self.c)
        interval = dist.constraints.open_interval(-edge, edge)
        return dist.constraints.independent(interval, 1)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.drawn(key, sample_shape)[0]

    def drawn(self, key: Key, sample_shape: tuple[int, ...] = ()) -> tuple:
        """Draws, and their tangents in units of distance."""
        noise = jax.random.normal(key, self.shape(sample_shape))
        scale, loc = (jnp.broadcast_to(a, noise.shape) for a in (self.scale, self.loc))
        tangent = scale * noise
        return exp_map(loc, tangent / conformal(loc, self.c), self.c), tangent

    def log_prob(self, value: Array) -> Array:
        loc = jnp.broadcast_to(self.loc, value.shape)
        tangent = conformal(loc, self.c) * log_map(loc, value, self.c)
        return self.log_prob_at(value, tangent)

    def log_prob_at(self, value: Array, tangent: Array) -> Array:
        """log p of a point whose tangent is known, by the change of volume."""
        axes = self.event_shape[0]
        scale = jnp.broadcast_to(self.scale, tangent.shape)
        flat = Normal(jnp.zeros_like(scale), scale).log_prob(tangent).sum(-1)
        curved = math.sqrt(self.c) * length(tangent)[..., 0]
        stretch = jnp.log(conformal(value, self.c))[..., 0]
        return flat + (axes - 1) * log_shrink(curved) + axes * stretch

    @property
    def mean(self) -> Array:
        return self.loc

    @property
    def variance(self) -> Array:
        """That of the tangent in coordinates, near mu."""
        return jnp.square(self.scale / conformal(self.loc, self.c))


@draw_with_log_prob.register
def _(q: WrappedNormal, key: Key) -> tuple[Array, Array]:
    # By the tangent that was drawn: near the rim its inverse has lost its digits.
    z, tangent = q.drawn(key)
    return z, q.log_prob_at(z, tangent)
