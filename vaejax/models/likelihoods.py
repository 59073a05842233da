"""Likelihoods p(x | z): how the output of a decoder body is read as a distribution.

A likelihood asks the body for `outputs(channels)` numbers where the data has `channels`
and returns a distribution whose `log_prob` is elementwise, in nats. `fits` says which
data it is a likelihood for; `discrete` whether it gives probabilities (True) or
densities (False) to values, which decides how bits/dim are counted.

The density of values that repeat exactly (a constant column, grey levels that were
not dequantized) has no upper bound: learned scales shrink on them to `FLOOR`, and a
Gaussian entry gains up to 5.99 nats, log(1 / (FLOOR sqrt(2 pi))), which say nothing
of the model.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from vaejax import distributions as d
from vaejax.errors import InputError
from vaejax.inference.terms import scored
from vaejax.models.heads import smooth_scale
from vaejax.nn.layers import MOMENTUM, share_of_batch
from vaejax.types import Array, Batch, Distribution

LikelihoodName = Literal[
    "auto",
    "bernoulli",
    "continuous_bernoulli",
    "gaussian",
    "gaussian_fixed",
    "gaussian_pixel",
    "gaussian_optimal",
    "laplace",
    "student_t",
    "categorical",
    "logistic_mixture",
]
"""The names of likelihoods in settings."""
GREY = frozenset({"grey"})
UNIT = frozenset({"binary", "grey", "dequantized"})
REAL = UNIT | {"real", "latent"}
FLOOR = 1e-3
"""The least scale of a continuous likelihood, in units of the preprocessed data."""


class Likelihood(nn.Module):
    """The base of all likelihoods; each is final."""

    fits = REAL
    discrete = False
    words = ""
    """Its description in the first lines of a run; empty: its name."""

    def outputs(self, channels: int) -> int:
        """Numbers that the body gives where the data has `channels`."""
        return channels

    def notes(self, values: str) -> tuple[str, ...]:
        """Warnings about this likelihood on data with these `values`."""
        del values
        return ()

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Independent bits. Grey targets in (0, 1) are allowed: then the cross-entropy."""

    fits = UNIT
    discrete = True

    def notes(self, values: str) -> tuple[str, ...]:
        if values == "binary":
            return ()
        return (
            "grey targets: the Bernoulli term is a cross-entropy, no likelihood of "
            "grey levels; --binarize dynamic makes it one",
        )

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.Bernoulli(out)


class ContinuousBernoulli(Likelihood):
    """A normalized density for grey values [Loaiza-Ganem & Cunningham 2019]."""

    fits = UNIT

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.ContinuousBernoulli(out)


class GaussianFixed(Likelihood):
    """N(mu(z), sigma^2) with a given sigma, in units of the preprocessed data."""

    sigma: float = 1.0

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.Normal(out, self.sigma)


class Gaussian(Likelihood):
    """N(mu(z), sigma^2) with one learned sigma."""

    @nn.compact
    def __call__(self, out: Array, batch: Batch) -> Distribution:
        log_sigma = self.param("log_sigma", nn.initializers.zeros, ())
        return d.Normal(out, jnp.maximum(jnp.exp(log_sigma), FLOOR))


class GaussianPixel(Likelihood):
    """N(mu(z), sigma(z)^2), a sigma for each entry, at least `floor`."""

    floor: float = FLOOR

    def outputs(self, channels: int) -> int:
        return 2 * channels

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        mean, raw = jnp.split(out, 2, axis=-1)
        return d.Normal(mean, self.floor + nn.softplus(raw))


class GaussianOptimal(Likelihood):
    """N(mu(z), s^2), s the maximum likelihood sigma [Rybkin et al. 2021, eq. 4].

    In training s^2 is the mean squared error of the batch. Evaluation must not
    look at the targets it scores, so it uses the running mean of the training batches
    (updated where `batch_stats` is mutable, as a BatchNorm is), in which batch t - k
    has the weight momentum^k, over the sum of all weights. Before the first batch it
    is 1.
    """

    momentum: float = MOMENTUM
    floor: float = FLOOR**2

    @nn.compact
    def __call__(self, out: Array, batch: Batch) -> Distribution:
        running = self.variable("batch_stats", "variance", jnp.ones, ())
        if self.is_mutable_collection("batch_stats"):
            variance = self._error(out, batch)
            share = share_of_batch(self, self.momentum)
            if not self.is_initializing():
                running.value = (1 - share) * running.value + share * variance
        else:
            variance = running.value
        return d.Normal(out, jnp.sqrt(jnp.maximum(variance, self.floor)))

    def _error(self, out: Array, batch: Batch) -> Array:
        """Mean squared error over scored entries; `out` may lack the sample axis."""
        x = batch["x"]
        lead = (1,) * (out.ndim - x.ndim)
        square = jnp.square(x.reshape(lead + x.shape) - out)
        counts = jnp.broadcast_to(scored(batch).reshape(lead + x.shape), square.shape)
        return jnp.sum(square * counts) / jnp.maximum(counts.sum(), 1)


class Laplace(Likelihood):
    """Laplace(mu(z), b) with one learned scale b."""

    @nn.compact
    def __call__(self, out: Array, batch: Batch) -> Distribution:
        log_scale = self.param("log_scale", nn.initializers.zeros, ())
        return d.Laplace(out, jnp.maximum(jnp.exp(log_scale), FLOOR))


class StudentT(Likelihood):
    """Student's t; location, scale and degrees of freedom (above 3) of each entry.

    The decoder of MIWAE [Mattei & Frellsen 2019].
    """

    floor: float = FLOOR

    def outputs(self, channels: int) -> int:
        return 3 * channels

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        mean, scale, freedom = jnp.split(out, 3, axis=-1)
        return d.StudentT(
            3 + nn.softplus(freedom), mean, self.floor + nn.softplus(scale)
        )


class Categorical(Likelihood):
    """A probability for each of the 256 grey levels of each entry."""

    fits = GREY
    discrete = True
    levels: int = 256

    def outputs(self, channels: int) -> int:
        return self.levels * channels

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        shape = (*out.shape[:-1], out.shape[-1] // self.levels, self.levels)
        return d.Levels(out.reshape(shape))


class LogisticMixture(Likelihood):
    """Mixture of discretized logistics for 8-bit images [Salimans et al. 2017].

    Scales are exp of what the body gives or, with `smooth`, log2(1 + 2^it)
    [Hazami et al. 2022].
    """

    fits = GREY
    discrete = True
    mixtures: int = 10
    log_scale_floor: float = -7.0
    smooth: bool = False

    def outputs(self, channels: int) -> int:
        pairs = channels * (channels - 1) // 2
        return self.mixtures * (1 + 2 * channels + pairs)

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        channels, m = batch["x"].shape[-1], self.mixtures
        rows = out.reshape(*out.shape[:-1], -1, m)
        locs = rows[..., 1 : 1 + channels, :]
        log_scales = rows[..., 1 + channels : 1 + 2 * channels, :]
        if self.smooth:  # which is about log2(e) 2^it far below 0: no log of 0
            least = (self.log_scale_floor - 1) / math.log(2)
            log_scales = jnp.log(smooth_scale(jnp.maximum(log_scales, least)))
        pairs = jnp.tanh(rows[..., 1 + 2 * channels :, :])
        return d.LogisticMixture(
            logits=rows[..., 0, :],
            locs=locs,
            log_scales=jnp.maximum(log_scales, self.log_scale_floor),
            coefficients=d.lower_triangular(pairs, channels),
        )


class Implicit(Likelihood):
    """A point mass at the network's output: what is generated, with no density.

    Images pass through a sigmoid, as the data is in [0, 1]; tables are as they are.
    """

    fits = UNIT | {"real"}
    words = "no likelihood"

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.Delta(nn.sigmoid(out) if batch["x"].ndim == 4 else out)


class OfFlow(Likelihood):
    """No decoder reads this: the model moves x itself, of any real values."""

    words = "no likelihood"


class OfCodes(Likelihood):
    """No decoder reads this: the model has the probability of each code itself."""

    fits = frozenset({"codes"})
    discrete = True
    words = "exact likelihood of codes"


LIKELIHOODS: Mapping[str, Callable[[], Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "gaussian_fixed": GaussianFixed,
    "gaussian_pixel": GaussianPixel,
    "gaussian_optimal": GaussianOptimal,
    "laplace": Laplace,
    "student_t": StudentT,
    "categorical": Categorical,
    "logistic_mixture": LogisticMixture,
}


def check_fit(likelihood: Likelihood, values: str, fixed: bool = False) -> None:
    """Raises InputError where `likelihood` is none for data with these `values`; the
    advice depends on whether it is `fixed` by a preset.
    """
    if values in likelihood.fits:
        return
    fitting = [n for n, make in LIKELIHOODS.items() if values in make().fits]
    advice = f"choose --likelihood of {', '.join(fitting)}"
    if fixed:
        advice = "choose a preset with a --likelihood, as vae"
    if values == "codes":
        advice = "choose code_transformer"
    elif "codes" in likelihood.fits:
        advice = "give --dataset latents:RUN, RUN being a quantized autoencoder"
    raise InputError(
        f"likelihood {type(likelihood).__name__} does not fit {values} data: {advice}"
    )
