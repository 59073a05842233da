"""Autoencoders whose latents are maps of codes: tokens of images."""

import dataclasses
from collections.abc import Mapping

from vaejax.configs import Data, Network, Training, at_least
from vaejax.data.kinds import divided_sides, require_images
from vaejax.experiment import Experiment, Metric
from vaejax.metrics import code_usage, count, likelihood_metrics
from vaejax.models import (
    LatentModel,
    MapEncoder,
    QuantizedVAE,
    TopConditioned,
    TwoLevelVAE,
)
from vaejax.models.likelihoods import LikelihoodName
from vaejax.nn.strided import DoublingConv, StridedDecoder, StridedEncoder
from vaejax.presets import assemble as a
from vaejax.presets.bodies import Bodies
from vaejax.presets.bottlenecks import (
    CodeBottleneck,
    build_quantizer,
    code_objective,
    with_first_codes,
)
from vaejax.presets.signature import preset

__all__ = ["fsq", "vqvae", "vqvae2"]

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

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Channels, those within blocks, and the number of blocks."""
        return self.width, self.inner, self.blocks


NARROW, MOVING = Strided(width=128, inner=64), CodeBottleneck(codebook="ema")

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


@preset(tiny={**TINY, "codes": 16, "code_channels": 4})
def vqvae2(
    *,
    data: Data = Data(),
    network: Strided = NARROW,
    latent: CodeBottleneck = MOVING,
    training: Training = TRAINING,
) -> Experiment:
    """Two maps of codes, a coarse one that a fine one depends on [Razavi et al. 2019].

    A code for each 8 x 8 pixels and one for each 4 x 4, of two codebooks of the same
    size; sides of images must divide by 8. The networks are those of `vqvae`. As
    `latents:RUN` the codes of an image are one row, the coarse map first, so that
    `code_transformer` learns p(coarse) p(fine | coarse).
    """
    view = a.open_data(data, Network(likelihood=network.likelihood))
    height, width = map_sides(view, 2 * FACTOR)
    quantizer, sizes = build_quantizer(latent), network.sizes
    channels, halving = quantizer.channels, (*sizes, 1)
    body = Bodies(
        StridedEncoder(*sizes), lambda shape: StridedDecoder(shape[-1], *sizes)
    )
    model = TwoLevelVAE(
        encoder=body.encoder,
        top_encoder=MapEncoder(StridedEncoder(*halving), channels),
        top_quantizer=build_quantizer(latent),
        mixer=TopConditioned(StridedDecoder(network.width, *halving), channels),
        quantizer=quantizer,
        doubler=DoublingConv(channels),
        decoder=a.build_decoder(body, view),
        sides=(2 * height, 2 * width),
    )
    codes = quantizer.size, quantizer.levels
    used = {f"codes_z{n}": code_usage(*codes, block=n) for n in (1, 2)}
    return experiment_of_codes(model, view, latent, training, used, (height, width))


def quantized_experiment(
    data: Data, network: Strided, latent: CodeBottleneck, training: Training
) -> Experiment:
    """A quantized autoencoder by its settings.

    Raises:
      InputError: the data are no images whose sides divide by 4.
    """
    view = a.open_data(data, Network(likelihood=network.likelihood))
    quantizer = build_quantizer(latent)
    sizes, sides = network.sizes, map_sides(view, FACTOR)
    body = Bodies(
        StridedEncoder(*sizes), lambda shape: StridedDecoder(shape[-1], *sizes)
    )
    model = QuantizedVAE(
        encoder=MapEncoder(body.encoder, quantizer.channels),
        quantizer=quantizer,
        decoder=a.build_decoder(body, view),
        sides=sides,
    )
    used = {"codes": code_usage(quantizer.size, quantizer.levels)}
    return experiment_of_codes(model, view, latent, training, used, sides)


def experiment_of_codes(
    model: LatentModel,
    view: a.View,
    latent: CodeBottleneck,
    training: Training,
    used: Mapping[str, Metric],
    sides: tuple[int, int],
) -> Experiment:
    """A model of codes, how it is trained, and the metrics of their use.

    `sides` are those of the least map of codes.
    """
    log_bin = 0.0 if view.likelihood.discrete else view.preprocess.log_bin
    more = {**used, "count": count()}
    made = a.one_player(
        model,
        code_objective(latent),
        view,
        training,
        lambda samples: {**likelihood_metrics(samples, log_bin=log_bin), **more},
    )
    return with_first_codes(made, latent, sides)


def map_sides(view: a.View, factor: int) -> tuple[int, int]:
    """Height and width of the map; InputError where sides do not divide."""
    require_images(view.dataset.spec, "this preset", ": use vae")
    return divided_sides(view.dataset.spec, factor)
