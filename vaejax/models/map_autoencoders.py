"""Autoencoders of feature maps as diffusers stores them: without likelihood or prior.

Images are `[batch, H, W, channels]`, in [-1, 1] by the convention of latent diffusion,
and latents `[batch, H / f, W / f, latents]`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Int

from vaejax.distributions import Normal
from vaejax.nn.codebooks import nearest_codes
from vaejax.nn.feature_maps import FeatureMapDecoder, FeatureMapEncoder
from vaejax.types import Array, Distribution, Key

LOG_VARIANCES = (-30.0, 20.0)
"""Log-variances are clipped to this range, as the reference does."""


def signed(x: Array) -> Array:
    """Images in [0, 1] as these networks see them, in [-1, 1]."""
    return 2 * x - 1


def gaussian_of(h: Array) -> Distribution:
    """A Gaussian over maps, from maps of twice as many channels.

    Its means are the first half of the channels, log-variances the second.
    """
    mean, log_variance = jnp.split(h, 2, axis=-1)
    return Normal(mean, jnp.exp(0.5 * jnp.clip(log_variance, *LOG_VARIANCES)))


class MapAutoencoder(nn.Module):
    """Maps with a Gaussian posterior [Rombach et al. 2022]: `AutoencoderKL`."""

    encoder: FeatureMapEncoder
    decoder: FeatureMapDecoder

    def posterior(self, x: Array) -> Distribution:
        """q(z | x), a diagonal Gaussian over maps."""
        return gaussian_of(self.encoder(x))

    def encode(self, x: Array) -> Array:
        """The means of q(z | x), `[batch, h, w, latents]`."""
        return self.posterior(x).mean

    def decode(self, z: Array) -> Array:
        """The images of latents `[..., h, w, latents]`."""
        return self.decoder(z)

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x))


def uniform_codes(key: Key, shape: tuple[int, int]) -> Array:
    """Draws within 1 / K of 0, of K codes `[K, channels]`."""
    return nn.initializers.uniform(2 / shape[0])(key, shape) - 1 / shape[0]


class Codebook(nn.Module):
    """The K vectors of the codes, as the parameter `embedding`."""

    size: int
    channels: int

    @nn.compact
    def __call__(self) -> Float[Array, "size channels"]:
        shape = (self.size, self.channels)
        return self.param("embedding", uniform_codes, shape)


class VectorQuantizedMapAutoencoder(nn.Module):
    """Maps of codes, the nearest of a codebook [van den Oord et al. 2017]: `VQModel`.

    `encode` ends and `decode` begins with vectors of the codebook.
    """

    encoder: FeatureMapEncoder
    decoder: FeatureMapDecoder
    quantize: Codebook

    def codes_of(self, x: Array) -> Int[Array, "batch h w 1"]:
        """The code at each place of the images' maps."""
        h = self.encoder(x)
        codes = nearest_codes(h.reshape(-1, h.shape[-1]), self.quantize())
        return codes.reshape(*h.shape[:-1], 1)

    def values_of(self, codes: Int[Array, "*batch h w 1"]) -> Array:
        """The vectors of codes, `[..., h, w, channels]`."""
        return self.quantize()[codes[..., 0]]

    def encode(self, x: Array) -> Array:
        """The vectors nearest to the images' maps, `[batch, h, w, channels]`."""
        return self.values_of(self.codes_of(x))

    def decode(self, z: Array) -> Array:
        """The images of latents `[..., h, w, channels]`."""
        return self.decoder(z)

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x))
