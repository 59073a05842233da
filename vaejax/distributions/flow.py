"""Normalizing flows: a Gaussian, transformed by invertible maps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.bijections import Bijection
from vaejax.distributions.properties import draw_with_log_prob
from vaejax.distributions.temperature import at_temperature
from vaejax.types import Array, Key

PAIRS = 32
"""Pairs of opposite draws that the mean of a flow is estimated from."""


class Flow(dist.Distribution):
    """The density of f_n(... f_1(z)), z Gaussian: joint over the latents of an example.

    [Rezende & Mohamed 2015, eq. 7]. Draws and their log densities come together, by the
    maps forward. `log_prob` of a given value goes backward; where a map's inverse has
    no formula, one Newton step from the root makes it differentiable.

    Args:
      base: independent normals, batch shape `[batch]`, event `[latents]`.
      maps: applied in this order.
    """

    arg_constraints = {}
    pytree_data_fields = ("base", "maps")
    support: Any = dist.constraints.real_vector

    def __init__(self, base: Any, maps: tuple[Bijection, ...]) -> None:
        self.base, self.maps = base, tuple(maps)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def forward(self, z: Array) -> tuple[Array, Array]:
        """The image of draws of the base, and the log-determinant of all maps."""
        log_det = jnp.zeros(z.shape[:-1])
        for each in self.maps:
            z, more = each.forward(z)
            log_det = log_det + more
        return z, log_det

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.forward(self.base.sample(key, sample_shape))[0]

    def log_prob(self, value: Array) -> Array:
        log_det = jnp.zeros(value.shape[:-1])
        for each in reversed(self.maps):
            value, more = inverse_of(each, value)
            log_det = log_det + more
        return self.base.log_prob(value) - log_det

    @property
    def mean(self) -> Array:
        """E[z], estimated from draws that are the same for all examples.

        Exact where the maps are affine: the draws come in opposite pairs.
        """
        return self._images().mean(0)

    @property
    def variance(self) -> Array:
        """The variance of each latent by the draws of `mean`."""
        return self._images().var(0)

    def _images(self) -> Array:
        normal = self.base.base_dist
        shape = (PAIRS, *(1 for _ in normal.batch_shape[:-1]), normal.batch_shape[-1])
        noise = jax.random.normal(jax.random.key(0), shape)
        noise = noise / jnp.sqrt(jnp.mean(jnp.square(noise), 0, keepdims=True))
        both = jnp.concatenate([noise, -noise])
        loc, scale = (jnp.asarray(a) for a in (normal.loc, normal.scale))
        return jax.vmap(lambda noise: self.forward(loc + scale * noise)[0])(both)


@draw_with_log_prob.register
def _(q: Flow, key: Key) -> tuple[Array, Array]:
    z = q.base.sample(key)
    y, log_det = q.forward(z)
    return y, q.base.log_prob(z) - log_det


@at_temperature.register
def _(p: Flow, temperature: float | Array) -> Flow:
    return Flow(at_temperature(p.base, temperature), p.maps)


def inverse_of(each: Bijection, y: Array) -> tuple[Array, Array]:
    """z and log |det dy/dz|, with exact first derivatives in y and the parameters.

    At the root z* of f(z) = y, z = z* + J^-1 (y - f(z*)) has the derivatives of the
    inverse where z* and J = df/dz are held fixed.
    """
    if each.closed:
        return each.inverse(y)
    stop = jax.lax.stop_gradient
    found, _ = jax.tree.map(stop, each).inverse(stop(y))
    found = stop(found)
    rest = y - each.forward(found)[0]
    jacobian = stop(jacobian_of(each, found))
    z = found + jnp.linalg.solve(jacobian, rest[..., None])[..., 0]
    return z, each.forward(z)[1]


def jacobian_of(each: Bijection, z: Array) -> Array:
    """dy/dz of each example, `[..., latents, latents]`."""

    def along(direction: Array) -> Array:
        tangent = jnp.broadcast_to(direction, z.shape)
        return jax.jvp(lambda z: each.forward(z)[0], (z,), (tangent,))[1]

    columns = jax.vmap(along)(jnp.eye(z.shape[-1]))
    return jnp.moveaxis(columns, 0, -1)
