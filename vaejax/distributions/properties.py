"""Properties of distributions that inference needs; other modules register theirs."""

from functools import singledispatch
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.types import Array, Distribution, Key


@singledispatch
def has_density(p: Any) -> bool:
    """Whether a distribution has a density or probabilities; a point mass has none."""
    return True


@has_density.register
def _(p: dist.Delta) -> bool:
    return False


@singledispatch
def relaxes(p: Any) -> bool:
    """Whether draws are discrete, and their gradient is that of a relaxation."""
    return False


@singledispatch
def scale_of(px: Distribution) -> Array | None:
    """The standard deviation (root mean square over all entries) of a Gaussian."""
    return None


@scale_of.register
def _(px: dist.Normal) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(jnp.asarray(px.scale))))


@singledispatch
def expectation(px: Distribution) -> Array:
    """The quantity averaged over z to impute x: E[x | z] where x is a number."""
    return px.mean


@singledispatch
def encoding(px: Distribution, x: Array) -> Array:
    """Values as `expectation` is of: the same where x is a number."""
    del px
    return x


def reparameterized(p: Any, key: Key) -> Array:
    """A draw, differentiable in the parameters where the distribution allows it."""
    return p.rsample(key) if p.has_rsample else p.sample(key)


@singledispatch
def draw_with_log_prob(q: Any, key: Key) -> tuple[Array, Array]:
    """A draw z of q and log q(z), nats, elementwise or joint as q is."""
    z = reparameterized(q, key)
    return z, q.log_prob(z)


@draw_with_log_prob.register
def _(q: dist.TransformedDistribution, key: Key) -> tuple[Array, Array]:
    # Together: an autoregressive flow is not inverted, one of no closed inverse works.
    z, path = q.sample_with_intermediates(key)
    return jnp.asarray(z), jnp.asarray(q.log_prob(z, path))
