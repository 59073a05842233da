"""Several categorical variables as one vector of zeros and ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from vaejax.distributions.properties import draw_with_log_prob, relaxes
from vaejax.types import Array, Key


class Categories(dist.Distribution):
    """Independent categorical variables, one-hot and side by side: joint over them.

    Draws are exact. In their gradient a draw is the Gumbel-softmax relaxation of itself
    at a temperature [Jang et al. 2017, sec. 2.2, straight-through; Maddison et al.
    2017], which is biased; estimators that need none stop it.

    Args:
      logits: `[batch, variables, categories]`.
      temperature: of the relaxation in gradients.
    """

    arg_constraints = {}
    pytree_data_fields = ("logits", "temperature")
    support: Any = dist.constraints.independent(dist.constraints.boolean, 1)
    has_rsample: Any = False

    def __init__(self, logits: Array, temperature: Array | float = 1.0) -> None:
        self.logits = logits
        self.temperature = temperature
        *batch, variables, categories = logits.shape
        super().__init__(tuple(batch), (variables * categories,), validate_args=False)

    @property
    def log_probs(self) -> Array:
        """Normalized logits."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.logits.shape)
        noise = jax.random.gumbel(key, shape)
        logits = jnp.broadcast_to(self.logits, shape)
        return self._hard(logits + noise).reshape(*sample_shape, *self.shape())

    def straight_through(self, key: Key) -> Array:
        """A draw, with the gradient of its relaxation."""
        noisy = self.log_probs + jax.random.gumbel(key, self.logits.shape)
        soft = jax.nn.softmax(noisy / self.temperature)
        hard = self._hard(noisy) + (soft - jax.lax.stop_gradient(soft))
        return hard.reshape(self.shape())

    def log_prob(self, value: Array) -> Array:
        ones = value.reshape(*value.shape[:-1], *self.logits.shape[-2:])
        log_probs = self.log_probs
        lead = (1,) * (ones.ndim - log_probs.ndim)
        return jnp.sum(ones * log_probs.reshape(lead + log_probs.shape), (-2, -1))

    @property
    def mean(self) -> Array:
        return jnp.exp(self.log_probs).reshape(self.shape())

    @property
    def variance(self) -> Array:
        return self.mean * (1 - self.mean)

    def _hard(self, noisy: Array) -> Array:
        return jax.nn.one_hot(jnp.argmax(noisy, -1), noisy.shape[-1])


@relaxes.register
def _(p: Categories) -> bool:
    return True


@draw_with_log_prob.register
def _(q: Categories, key: Key) -> tuple[Array, Array]:
    z = q.straight_through(key)
    # At the draw itself: no slope of log q passes through the relaxation.
    return z, q.log_prob(jax.lax.stop_gradient(z))


def kl_of_categories(q: Categories, p: Categories) -> Array:
    """KL(q || p) of all variables together, nats `[batch]`."""
    log_q, log_p = q.log_probs, p.log_probs
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), (-2, -1))
