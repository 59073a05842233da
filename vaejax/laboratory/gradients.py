"""How much of a gradient is signal, over the number of importance samples."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax import objectives, parallel
from vaejax.data.entries import checked_key
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.inference.bounds import Bound, importance_weighted
from vaejax.inference.gradients import GradientName
from vaejax.models.capabilities import infers
from vaejax.runtime.limits import check_count
from vaejax.types import Array, Batch, Key, Variables


class GradientNoise(NamedTuple):
    """Signal and noise of the gradient of IWAE_K in one part of a model."""

    gradient: GradientName
    samples: int
    """K."""
    part: str
    snr: float
    """Mean over parameters of |E g| / sd g [Rainforth et al. 2018]."""
    whole: float
    """|E g| / (E |g - E g|^2)^(1/2) of the part's whole gradient g, without the share
    that the noise of the mean has in it."""


class GradientMoments(NamedTuple):
    """Mean and variance of each entry of a gradient, over so many draws of it."""

    draws: int
    mean: Any
    variance: Any


def gradient_snr(
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    key: Key,
    *,
    samples: Sequence[int] = (1, 8, 64),
    gradients: Sequence[GradientName] = ("pathwise", "dreg"),
    draws: int = 200,
) -> Iterator[GradientNoise]:
    """Signal-to-noise ratios of the gradients of IWAE_K at a batch that stays the same.

    More samples make a tighter bound and a gradient of the decoder with less noise, but
    the signal of the encoder falls faster than its noise: its ratio falls as K^(-1/2)
    [Rainforth et al. 2018, theorem 1], unless it is doubly reparameterized: then it
    grows as K^(1/2) [Tucker et al. 2019].

    Args:
      experiment: what was trained, whose model has a density of its latents.
      state: its parameters.
      batch: examples as the model sees them, such as `held_out_examples` gives; the
        gradient is that of their mean.
      key: of all draws of latents.
      samples: the numbers K, each a program of its own.
      gradients: the estimators.
      draws: gradients that means and variances are of. Noise alone has a ratio of about
        0.8 / sqrt(draws) in `snr`.

    Returns:
      A row for each estimator, K and part, as it is computed.

    Raises:
      InputError: the model has no latents or no such gradient, or a number is out of
        range.
    """
    checked_key(key)
    check_count("draws", draws, 2)
    if not infers(experiment.model):
        raise InputError(f"{experiment.name} has no encoder, and no bound to measure")
    for count in samples:
        check_count("samples", count, 1)
    return rows_of(experiment, state, batch, key, samples, gradients, draws)


def rows_of(
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    key: Key,
    samples: Sequence[int],
    gradients: Sequence[GradientName],
    draws: int,
) -> Iterator[GradientNoise]:
    """The rows of `gradient_snr`, each program run where its first row is asked for."""
    for gradient in gradients:
        for count in samples:
            found = parallel.compile_function(
                gradient_moments,
                experiment.model,
                bound=importance_weighted(count),
                gradient=gradient,
                draws=draws,
            )(variables_of(state), dict(batch), key)
            for part, mean in found.mean.items():
                ratios = np.asarray(ratios_of(mean, found.variance[part], draws))
                yield GradientNoise(gradient, count, part, *map(float, ratios))


def gradient_moments(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    bound: Bound,
    gradient: GradientName,
    draws: int,
) -> GradientMoments:
    """Moments of a bound's gradient over draws of latents, by Welford's updates."""
    objective = partial(objectives.weighted, bound=bound, gradient=gradient)
    apply = nn.apply(objective, model)
    rest = {name: part for name, part in variables.items() if name != "params"}

    def loss(params: Any, key: Key) -> Array:
        return apply({"params": params, **rest}, batch, key)[0]

    def fold(carry: tuple[Any, Any], number: Array) -> tuple[tuple[Any, Any], None]:
        mean, squares = carry
        found = jax.grad(loss)(params, jax.random.fold_in(key, number))
        ahead = jax.tree.map(lambda g, m: g - m, found, mean)
        mean = jax.tree.map(lambda m, d: m + d / (number + 1), mean, ahead)
        squares = jax.tree.map(
            lambda s, d, g, m: s + d * (g - m), squares, ahead, found, mean
        )
        return (mean, squares), None

    params = variables["params"]
    start = jax.tree.map(jnp.zeros_like, (params, params))
    (mean, squares), _ = jax.lax.scan(fold, start, jnp.arange(draws))
    return GradientMoments(
        draws, mean, jax.tree.map(lambda s: s / (draws - 1), squares)
    )


def ratios_of(mean: Any, variance: Any, draws: int) -> Array:
    """`snr` and `whole` of a part, `[2]`; NaN where nothing of it varies.

    Entries that do not vary are left out: no example of the batch reaches them.
    """
    m = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(mean)])
    v = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(variance)])
    varies = v > 0
    each = jnp.where(varies, jnp.abs(m) / jnp.sqrt(jnp.where(varies, v, 1.0)), 0.0)
    noise = v.sum()
    signal = jnp.where(varies, jnp.square(m), 0.0).sum() - noise / draws
    whole = jnp.sqrt(jnp.maximum(signal, 0.0) / noise)
    return jnp.stack([each.sum() / varies.sum(), whole])


def gradient_ratios(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    samples: Sequence[int],
    gradients: Sequence[GradientName],
    draws: int,
) -> dict[str, Array]:
    """All ratios of `gradient_snr` as one program: `[batch, gradients, samples, 2]`.

    By part; the gradient is of the mean of the batch, so that all its rows are alike.
    """

    def of(gradient: GradientName, count: int) -> dict[str, Array]:
        bound = importance_weighted(count)
        of_bound = {"bound": bound, "gradient": gradient, "draws": draws}
        found = gradient_moments(model, variables, batch, key, **of_bound)
        return {
            part: ratios_of(mean, found.variance[part], draws)
            for part, mean in found.mean.items()
        }

    table = [[of(gradient, count) for count in samples] for gradient in gradients]
    stacked = {
        part: jnp.stack([jnp.stack([one[part] for one in row]) for row in table])
        for part in table[0][0]
    }
    rows = len(batch["x"])
    return {
        part: jnp.broadcast_to(ratios[None], (rows, *ratios.shape))
        for part, ratios in stacked.items()
    }
