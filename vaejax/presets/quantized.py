"""Autoencoders whose latents are maps of codes: tokens of images."""

import dataclasses

from vaejax.configs import Data, Network, Training, at_least
from vaejax.data.kinds import divided_sides, require_images
from vaejax.experiment import Experiment
from vaejax.metrics import code_usage, count, likelihood_metrics
from vaejax.models import MapEncoder, QuantizedVAE
from vaejax.models.likelihoods import LikelihoodName
from vaejax.nn.strided import StridedDecoder, StridedEncoder
from vaejax.presets import assemble as a
from vaejax.presets.bodies import Bodies
from vaejax.presets.bottlenecks import (
    CodeBottleneck,
    build_quantizer,
    code_objective,
    with_first_codes,
)
from vaejax.presets.signature import preset

__all__ = ["fsq", "vqvae"]

TRAINING = Training(epochs=100, learning_rate=2e-4)
FACTOR = 4
"""Pixels of a side for each position of the map."""


@dataclasses.dataclass(frozen=True)
class Strided:
    """The networks of a VQ-VAE: two strided convolutions, and residual blocks."""

    width: int = 256
    """Channels of all maps."""
    inner: int = 256
    """Channels within residual blocks."""
    blocks: int = 2
    """Residual blocks of each network."""
    likelihood: LikelihoodName = "auto"
    """p(x | z); auto: bernoulli of nearly binary images, logistic_mixture of others."""

    def __post_init__(self) -> None:
        at_least(1, self, "width", "inner")
        at_least(0, self, "blocks")


TINY = {"width": 8, "inner": 4, "blocks": 1, "likelihood": "gaussian_optimal"}


@preset(tiny={**TINY, "codes": 16, "code_channels": 4, "codebook": "ema"})
def vqvae(
    *,
    data: Data = Data(),
    network: Strided = Strided(),
    latent: CodeBottleneck = CodeBottleneck(),
    training: Training = TRAINING,
) -> Experiment:
    """The VQ-VAE of images by the network of CIFAR-10 [van den Oord et al. 2017].

    Two convolutions 4x4 of stride 2, two residual blocks, 256 channels, and their
    mirror; 512 codes of 64 numbers, commitment 0.25, Adam at 2e-4. Sides of images must
    divide by 4; each 4 x 4 pixels have one code, where the paper has ten of CIFAR-10.
    Squares are summed over positions; the paper's words allow their mean, too. Other
    bottlenecks: rvq [Zeghidour et al. 2021], fsq [Mentzer et al. 2023], lfq
    [Yu et al. 2023].
    """
    return quantized_experiment(data, network, latent, training)


@preset(tiny={**TINY, "channel_values": (3, 2)})
def fsq(
    *,
    data: Data = Data(),
    network: Strided = Strided(),
    latent: CodeBottleneck = CodeBottleneck(bottleneck="fsq"),
    training: Training = TRAINING,
) -> Experiment:
    """Codes by rounding a few channels, without a loss [Mentzer et al. 2023].

    1000 codes, 8 x 5 x 5 x 5; networks and optimizer as in `vqvae`.
    """
    return quantized_experiment(data, network, latent, training)


def quantized_experiment(
    data: Data, network: Strided, latent: CodeBottleneck, training: Training
) -> Experiment:
    """A quantized autoencoder by its settings.

    Raises:
      InputError: the data are no images whose sides divide by 4.
    """
    view = a.open_data(data, Network(likelihood=network.likelihood))
    quantizer = build_quantizer(latent)
    sizes = network.width, network.inner, network.blocks
    body = Bodies(
        StridedEncoder(*sizes), lambda shape: StridedDecoder(shape[-1], *sizes)
    )
    model = QuantizedVAE(
        encoder=MapEncoder(body.encoder, quantizer.channels),
        quantizer=quantizer,
        decoder=a.build_decoder(body, view),
        sides=map_sides(view, FACTOR),
    )
    log_bin = 0.0 if view.likelihood.discrete else view.preprocess.log_bin
    used = {"codes": code_usage(quantizer.size, quantizer.levels), "count": count()}
    made = a.one_player(
        model,
        code_objective(latent),
        view,
        training,
        lambda samples: {**likelihood_metrics(samples, log_bin=log_bin), **used},
    )
    return with_first_codes(made, latent)


def map_sides(view: a.View, factor: int) -> tuple[int, int]:
    """Height and width of the map; InputError where sides do not divide."""
    require_images(view.dataset.spec, "this preset", ": use vae")
    return divided_sides(view.dataset.spec, factor)
