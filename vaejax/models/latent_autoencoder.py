"""Parts of latent autoencoders: images in [-1, 1], as their networks are published.

x is in [0, 1] here as elsewhere. Encoders see 2 x - 1, and what a decoder gives is read
on that scale, so that the weights mean what they do in `vaejax.models.map_autoencoders`
and in diffusers.
"""

import flax.linen as nn

from vaejax import distributions as d
from vaejax.models.likelihoods import UNIT, Likelihood
from vaejax.models.map_autoencoders import gaussian_of, signed
from vaejax.models.quantized import QuantizedVAE
from vaejax.types import Array, Batch, Distribution


class SignedEncoder(nn.Module):
    """A body's map of images whose entries are in [-1, 1]."""

    body: nn.Module

    def __call__(self, batch: Batch) -> Array:
        return self.body(signed(batch["x"]))


class GaussianMapEncoder(nn.Module):
    """q(z | x), a Gaussian over maps, from a body with two numbers for each latent."""

    body: nn.Module

    def __call__(self, batch: Batch) -> Distribution:
        return gaussian_of(self.body(signed(batch["x"])))


class AbsoluteError(Likelihood):
    """-log p(x | z) = |x' - y|, x' = 2 x - 1 in [-1, 1] and y what the body gives.

    A Laplace distribution of x with scale 1 / 2, whose normalizer is 1: the published
    sum of absolute errors [Rombach et al. 2022, code], and a density as it is.
    """

    fits = UNIT

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.Laplace((out + 1) / 2, 0.5)


class SquaredError(Likelihood):
    """-log p(x | z) = |x' - y|^2 - .12, x' and y as of `AbsoluteError`.

    A Gaussian of x with variance 1 / 8; the constant is log(pi / 4) / 2, of each entry.
    """

    fits = UNIT

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return d.Normal((out + 1) / 2, 8**-0.5)


class QuantizedCriticVAE(QuantizedVAE):
    """Maps of codes, and a critic of their images [Esser et al. 2021]."""

    critic: nn.Module
