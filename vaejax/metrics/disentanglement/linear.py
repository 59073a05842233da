"""Linear classifiers of codes, to the optimum of their convex losses."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from vaejax.types import Array


class Linear(NamedTuple):
    """Scores x @ weight + bias of classes."""

    weight: Float[np.ndarray, "features classes"]
    bias: Float[np.ndarray, " classes"]

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Scores `[N, classes]`."""
        return x @ self.weight + self.bias

    def predict(self, x: np.ndarray) -> Int[np.ndarray, " N"]:
        """The class of the largest score."""
        return self.scores(x).argmax(1)

    def log_probabilities(self, x: np.ndarray) -> np.ndarray:
        """log p(class | x), nats `[N, classes]`."""
        scores = self.scores(x)
        top = scores.max(1, keepdims=True)
        return scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))


def logistic_regression(
    x: Float[np.ndarray, "N features"],
    y: Int[np.ndarray, " N"],
    classes: int,
    *,
    c: float = 1.0,
    balanced: bool = False,
) -> Linear:
    """The multinomial logistic regression that scikit-learn fits.

    The minimum of the sum of -log p(y | x) plus |weight|^2 / (2 c), by L-BFGS; c =
    inf has no penalty. With `balanced`, an example weighs N / (classes times the number
    of its class).
    """
    from scipy.optimize import minimize  # takes a while to load

    count, features = x.shape
    sizes = np.bincount(y, minlength=classes)
    weight = np.ones(count)
    if balanced:
        weight = (count / ((sizes > 0).sum() * np.maximum(sizes, 1)))[y]
    absent = np.where(sizes > 0, 0.0, -np.inf)  # no class that has no example
    rows = [np.asarray(a, np.float64) for a in (x, weight, absent)]
    loss = partial(loss_and_slope, *rows, y, 1 / (c * count))

    def of_vector(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(vector.reshape(-1, classes))
        return float(value), np.asarray(slope).ravel()

    start = np.zeros((features + 1) * classes)
    options = {"maxiter": 500, "gtol": 1e-5, "ftol": 1e-9}
    with jax.enable_x64(True):  # in float32 the line search ends where rounding does
        found = minimize(of_vector, start, method="L-BFGS-B", jac=True, options=options)
    both = found.x.reshape(-1, classes)
    return Linear(both[:-1], both[-1] + absent)


@jax.jit
def loss_and_slope(
    x: Array,
    weight: Array,
    absent: Array,
    y: Array,
    penalty: float | Array,
    both: Array,
) -> tuple[Array, Array]:
    """The mean loss of parameters `[features + 1, classes]`, and its gradient."""

    def loss(both: Array) -> Array:
        scores = x @ both[:-1] + (both[-1] + absent)[None]
        log_p = jax.nn.log_softmax(scores)
        own = jnp.take_along_axis(log_p, y[:, None], 1)[:, 0]
        return 0.5 * penalty * jnp.square(both[:-1]).sum() - (weight * own).mean()

    return jax.value_and_grad(loss)(both)


STEPS = 40
"""Newton steps of a support vector machine; the loss is piecewise quadratic."""


@partial(jax.jit, static_argnums=(2, 3))
def squared_hinge(
    x: Float[Array, " N"], y: Int[Array, " N"], classes: int, c: float
) -> Float[Array, "classes 2"]:
    """Slope and bias of the linear support vector machine of each class, of one x.

    The minimum of (slope^2 + bias^2) / 2 + c sum w_n max(0, 1 - t_n f(x_n))^2, with t
    = 1 for the class and -1 for all others, and w = N / (classes times the number of
    the class) for its own examples, 1 for others: LIBLINEAR's `balanced` classes
    against the rest. Of two classes, both weigh so.
    """
    sizes = jnp.zeros(classes).at[y].add(1)
    balance = len(y) / (classes * jnp.maximum(sizes, 1))
    both = jnp.stack([x, jnp.ones_like(x)], 1)

    def fit(k: Array) -> Array:
        target = jnp.where(y == k, 1.0, -1.0)
        others = balance[y] if classes == 2 else jnp.ones_like(x)
        w = c * jnp.where(y == k, balance[k], others)

        def loss(theta: Array) -> Array:
            slack = jnp.maximum(0, 1 - target * (both @ theta))
            return 0.5 * jnp.square(theta).sum() + (w * jnp.square(slack)).sum()

        def step(theta: Array, _: None) -> tuple[Array, None]:
            slack = jnp.maximum(0, 1 - target * (both @ theta))
            active = w * (slack > 0)
            slope = theta - 2 * (both * (w * target * slack)[:, None]).sum(0)
            curve = jnp.eye(2) + 2 * both.T @ (both * active[:, None])
            move = jnp.linalg.solve(curve, slope)
            shares = 0.5 ** jnp.arange(8.0)
            tried = theta[None] - shares[:, None] * move[None]
            losses = jax.vmap(loss)(tried)
            best = tried[losses.argmin()]
            return jnp.where(losses.min() < loss(theta), best, theta), None

        return jax.lax.scan(step, jnp.zeros(2), None, STEPS)[0]

    return jax.lax.map(fit, jnp.arange(classes))
