"""Flow matching: the velocity of straight paths from noise to data, by regression."""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.errors import InputError
from vaejax.models import RectifiedFlow
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch, Key, Metrics

TimesName = Literal["uniform", "logit_normal"]
"""The names of the distributions of times in settings."""


def uniform_times(key: Key, rows: int) -> Float[Array, " rows"]:
    """t ~ U(0, 1)."""
    return jax.random.uniform(key, (rows,))


def logit_normal_times(key: Key, rows: int) -> Float[Array, " rows"]:
    """logit t ~ N(0, 1): more of the middle [Esser et al. 2024, sec. 3.1]."""
    return jax.nn.sigmoid(jax.random.normal(key, (rows,)))


TIMES: Mapping[str, Callable[[Key, int], Array]] = {
    "uniform": uniform_times,
    "logit_normal": logit_normal_times,
}
"""Distributions of t by name."""


def flow_matching(
    model: RectifiedFlow,
    batch: Batch,
    key: Key,
    *,
    times: str = "uniform",
    null_rate: float = 0.0,
) -> tuple[Array, Metrics]:
    """Squared error of the velocity on straight paths, mean over the entries of x.

    loss = E |v((1 - t) x_0 + t x_1, t, y) - (x_1 - x_0)|^2 / entries, x_0 noise
    [Liu et al. 2023, eq. 1; Lipman et al. 2023, sec. 4.1, with sigma_min = 0]. It is no
    likelihood and has no bound of one, so it is not in nats.

    Args:
      model: a bound `vaejax.models.RectifiedFlow`.
      batch: `x` `[batch, *shape]`, and what the model conditions on.
      key: a `jax.random.key`.
      times: distribution of t in training.
      null_rate: share of labels that are replaced by the null label, by which the
        model learns p(x) beside p(x | y) [Ho & Salimans 2022, alg. 1].

    Returns:
      The loss, a scalar, and the same as the term `velocity_error`, in units of the
      variance of standardized x.

    Raises:
      InputError: there are no such times, or x has holes.
    """
    if times not in TIMES:
        raise InputError(f"times {times!r} are unknown: choose of {', '.join(TIMES)}")
    null_key = jax.random.fold_in(key, OfObjective.NULL_LABELS)
    batch = with_null_labels(batch, null_key, null_rate) if null_rate else batch
    loss = velocity_errors(model, batch, key, TIMES[times]).mean()
    return loss, {"velocity_error": loss}


def velocity_errors(
    model: RectifiedFlow,
    batch: Batch,
    key: Key,
    times: Callable[[Key, int], Array] = uniform_times,
) -> Float[Array, " batch"]:
    """Mean squared error of the velocity of each example at one time and noise."""
    x = model.standardized(batch)
    noise_key, time_key = (
        jax.random.fold_in(key, purpose)
        for purpose in (OfObjective.PRIOR, OfObjective.TIMES)
    )
    noise = jax.random.normal(noise_key, x.shape)
    t = times(time_key, len(x))
    share = t.reshape(-1, *(1,) * (x.ndim - 1))
    found = model.velocity((1 - share) * noise + share * x, t, batch)
    square = jnp.square(found - (x - noise))
    return square.reshape(len(x), -1).mean(-1)


def with_null_labels(batch: Batch, key: Key, rate: float) -> Batch:
    """The batch with a share of its labels, if any, replaced by the null label.

    That is -1 of labels `[batch]`, and zeros of soft ones `[batch, classes]`.
    """
    if "y" not in batch:
        return batch
    y = batch["y"]
    null = jax.random.bernoulli(key, rate, (len(y),))
    none = jnp.where(null[:, None], 0, y) if y.ndim == 2 else jnp.where(null, -1, y)
    return {**batch, "y": none}
