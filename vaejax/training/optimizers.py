"""Optimizers of published code, where Optax has none like them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def adam_from_ones(
    beta1: float = 0.99, beta2: float = 0.999, epsilon: float = 1e-4
) -> optax.GradientTransformation:
    """Adam's direction as the code of Burda et al. 2016 computes it.

    m and v are averages of the gradient and of its square; m begins at 0 and v at 1.
    The direction is sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon), whose
    epsilon is added before the correction for the start [Kingma & Ba 2015, sec. 2].
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        ones = jax.tree.map(jnp.ones_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, ones)

    def update(
        updates: Any, state: Any, params: Any = None
    ) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(updates, state.mu, beta1, 1)
        square = optax.tree.update_moment(updates, state.nu, beta2, 2)
        size = jnp.sqrt(1 - beta2**count) / (1 - beta1**count)
        moves = jax.tree.map(
            lambda m, v: size * m / (jnp.sqrt(v) + epsilon), mean, square
        )
        return moves, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)
