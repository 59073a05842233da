"""Optimizers of published code, where Optax has none like them."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vaejax.types import Array, ArrayLike


def normalized_gradients(epsilon: float = 1e-7) -> optax.GradientTransformation:
    """Divides each tensor's gradient by its norm + epsilon.

    Adam of that is the AdamNormGrad of the code of Tomczak & Welling 2018.
    """

    def normalized(gradient: ArrayLike, param: Any) -> Array:
        del param
        return gradient / (jnp.linalg.norm(jnp.ravel(gradient)) + epsilon)

    return optax.stateless_with_tree_map(normalized)


def early_epsilon_adam(
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    square: float = 0.0,
) -> optax.GradientTransformation:
    """Adam's direction with epsilon added before the correction for the start.

    m and v are averages of the gradient, from 0 on, and of its square, from `square`
    on. The direction is sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)
    [Kingma & Ba 2015, end of sec. 2]: Theano code and PyTorch's until 2019 had it so.
    """

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        squares = jax.tree.map(lambda p: jnp.full_like(p, square), params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, squares)

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
