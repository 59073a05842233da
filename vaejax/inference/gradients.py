"""Gradients of bounds: other estimators than differentiating through the draws.

All are functions of a model's `terms`, `infer` and `weigh`. Each gives the same value
of the bound, of which automatic differentiation makes its gradient:

- pathwise: sum_i v_i d log w_i, v_i the slopes of the bound (of IWAE w_i / sum w).
- stl: the same without the score d log q(z_i) / d q at fixed z_i, whose expectation is
  0 in an ELBO [Roeder et al. 2017]. Of a bound of several draws it is biased.
- dreg: the score reparameterized once more, which is a weight on the path through z_i:
  v_i (1 - d log v_i / d log w_i), of IWAE v_i^2 [Tucker et al. 2019].
- vimco: the score with a signal of its own for each draw, for latents that are not
  differentiable [Mnih & Rezende 2016].
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import relaxes
from vaejax.errors import InputError
from vaejax.inference.bounds import Bound
from vaejax.inference.imputation import wide
from vaejax.inference.latents import FromPosterior, Keys, draw_keys, log_density
from vaejax.inference.terms import Inference
from vaejax.types import Array, Batch, Distribution, Key

GradientName = Literal["pathwise", "stl", "dreg", "vimco"]
"""The settings' names of the estimators."""
Values = Mapping[str, Array]
Hook = Callable[[Values, Array], tuple[Values, Array]]
"""Latents by block and zeros `[samples, batch]`, both unchanged: it acts on slopes."""
Estimate = tuple[Inference, Float[Array, " batch"]]


class PathOnly(NamedTuple):
    """Draws whose log q(z) depends on q by way of z alone: one block of latents."""

    keys: Keys
    hook: Hook

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        z, _ = FromPosterior(self.keys)(block, q, p, number=number, each=each)
        hooked, zero = self.hook({block: z}, jnp.zeros_like(z, shape=z.shape[:2]))
        fixed = jax.tree.map(jax.lax.stop_gradient, q)
        log_q = log_density(fixed, hooked[block])
        # Added to each part of an elementwise log q: only ratios of slopes are used.
        return hooked[block], log_q + wide(zero, log_q)


class Undifferentiated(NamedTuple):
    """Draws through which no slope passes, with log q of them as they are given."""

    keys: Keys

    def __call__(
        self,
        block: str,
        q: Distribution,
        p: Distribution | None = None,
        *,
        number: int = 0,
        each: bool = False,
    ) -> tuple[Array, Array]:
        z, _ = FromPosterior(self.keys)(block, q, p, number=number, each=each)
        z = jax.lax.stop_gradient(z)
        return z, log_density(q, z)


def estimate(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    bound: Bound,
    gradient: GradientName = "pathwise",
    beta: float | Array = 1.0,
) -> Estimate:
    """Terms of a bound's draws, and the bound of tempered weights, differentiable.

    Args:
      model: a bound `vaejax.models.LatentModel`, as objectives get it.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      bound: of the log-weights of its draws.
      gradient: the estimator of its gradient.
      beta: power of p(z) / q(z | x) in the weights.

    Returns:
      The terms, and the bound of each example, nats.

    Raises:
      InputError: the model or the bound has no such gradient.
    """
    keys = draw_keys(key, jnp.arange(bound.draws))
    if gradient != "pathwise":
        check_ignorable(model, gradient)
    return ESTIMATORS[gradient](model, batch, keys, bound, beta)


def pathwise(
    model: Any, batch: Batch, keys: Keys, bound: Bound, beta: float | Array
) -> Estimate:
    """Differentiated through the draws [Kingma & Welling 2014]."""
    i = model.infer(batch, keys)
    check_differentiable(i, "pathwise", biased=True)
    return i, bound.value(i.tempered(beta))


def sticking_the_landing(
    model: Any, batch: Batch, keys: Keys, bound: Bound, beta: float | Array
) -> Estimate:
    """Through the draws, without the score."""
    i = without_score(model, batch, keys, lambda z, zero: (z, zero))
    check_differentiable(i, "stl")
    return i, bound.value(i.tempered(beta))


def doubly_reparameterized(
    model: Any, batch: Batch, keys: Keys, bound: Bound, beta: float | Array
) -> Estimate:
    """Through the draws, each path weighted, without the score."""
    if bound.growth is None:
        raise InputError("--gradient dreg is of smooth bounds: use pathwise with max")
    hook = partial(reweighted, bound.growth, jnp.asarray(beta, jnp.float32))
    i = without_score(model, batch, keys, hook)
    check_differentiable(i, "dreg")
    return i, bound.value(i.tempered(beta))


def leave_one_out(
    model: Any, batch: Batch, keys: Keys, bound: Bound, beta: float | Array
) -> Estimate:
    """The score of each draw, by how much the bound exceeds what others make of it.

    The signal of draw i is bound(log_w) - bound(log_w with the mean of the others in
    the place of log_w_i): the baseline does not depend on draw i.
    """
    if len(keys) < 2:
        raise InputError("--gradient vimco compares draws: use --samples 2 or more")
    i = model.terms(batch, Undifferentiated(keys))
    log_w, score = i.tempered(beta), i.log_qz - jax.lax.stop_gradient(i.log_qz)
    signal = jax.lax.stop_gradient(signals(bound.value, log_w))
    return i, bound.value(log_w) + (signal * score).sum(0)


Estimator = Callable[[Any, Batch, Keys, Bound, float | Array], Estimate]
ESTIMATORS: Mapping[str, Estimator] = {
    "pathwise": pathwise,
    "stl": sticking_the_landing,
    "dreg": doubly_reparameterized,
    "vimco": leave_one_out,
}


def signals(
    value: Callable[[Array], Array], log_w: Float[Array, "draws batch"]
) -> Float[Array, "draws batch"]:
    """The bound less what it is without each draw."""
    draws = len(log_w)
    others = (log_w.sum(0, keepdims=True) - log_w) / (draws - 1)

    def without(draw: Array) -> Array:
        return value(log_w.at[draw].set(others[draw]))

    return value(log_w)[None] - jax.vmap(without)(jnp.arange(draws))


def without_score(model: Any, batch: Batch, keys: Keys, hook: Hook) -> Inference:
    """Terms at draws of q, where log q has no slope at fixed draws.

    Blocks of latents are hooked together: the path from one block to those that are
    drawn after it belongs to the draws, and would be met again by a hook in between.
    So the latents of several blocks are drawn first and weighed then.
    """
    i = model.terms(batch, PathOnly(keys, hook))
    if len(i.latents) == 1:
        return i
    drawn = {name: t.z for name, t in model.infer(batch, keys).latents.items()}
    shape = next(iter(drawn.values())).shape[:2]
    hooked, zero = hook(drawn, jnp.zeros_like(i.log_px, shape=shape))
    fixed = model.weigh(jax.lax.stop_gradient(drawn), batch).log_qz
    found = model.weigh(hooked, batch)
    name, term = next(iter(found.latents.items()))
    log_q = term.log_q - (fixed - jax.lax.stop_gradient(fixed)) + zero
    latents = {**found.latents, name: term._replace(log_q=log_q)}
    return found._replace(latents=latents)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def reweighted(
    growth: Callable[[Array], Array], beta: Array, z: Values, zero: Array
) -> tuple[Values, Array]:
    """Latents and zeros as they are; slopes in z are weighted by 1 - beta growth(v).

    The zeros are added to log q, so that their slopes are -beta v_i times what the loss
    is scaled by: divided by their sum over draws, they are the bound's slopes v_i.
    """
    del growth, beta
    return z, zero


def reweighted_forward(
    growth: Callable[[Array], Array], beta: Array, z: Values, zero: Array
) -> tuple[tuple[Values, Array], Array]:
    """Nothing but beta is kept for the way back."""
    del growth
    return (z, zero), beta


def reweighted_backward(
    growth: Callable[[Array], Array], beta: Array, slopes: tuple[Values, Array]
) -> tuple[None, Values, Array]:
    """The slopes in z, weighted."""
    of_z, of_zero = slopes
    total = of_zero.sum(0, keepdims=True)
    some = total != 0  # it is 0 where beta is, whatever v is
    v = jnp.where(some, of_zero / jnp.where(some, total, 1.0), 1 / len(of_zero))
    weight = 1 - beta * growth(v)
    return None, {name: wide(weight, g) * g for name, g in of_z.items()}, of_zero


reweighted.defvjp(reweighted_forward, reweighted_backward)


def check_ignorable(model: Any, gradient: str) -> None:
    """InputError where weights are of completions that are drawn beside the latents."""
    if not model.ignorable:
        raise InputError(
            f"--gradient {gradient} is not of a model of missingness, whose weights "
            "depend on more draws than its latents: use pathwise"
        )


def check_differentiable(i: Inference, gradient: str, biased: bool = False) -> None:
    """InputError where a draw has no slope in the parameters of q.

    With `biased` the slope of a relaxation is one.
    """
    for name, term in i.latents.items():
        known = biased and relaxes(term.q)
        if not known and not getattr(term.q, "has_rsample", True):
            raise InputError(
                f"--gradient {gradient} differentiates through draws, and those of "
                f"{name} are discrete: use vimco"
            )
