"""The convolutional VAE of Sylvester flows as its authors' code has it."""

from functools import partial

import optax

from vaejax import objectives
from vaejax.configs import Data, Latents, Training
from vaejax.data.kinds import require_images
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, epoch_steps
from vaejax.models import VAE, Decoder
from vaejax.models import likelihoods as li
from vaejax.models.heads import GaussianHead, softplus_scale
from vaejax.nn.gated import GatedConvDecoder, GatedConvEncoder
from vaejax.nn.starts import TORCH
from vaejax.presets import assemble as a
from vaejax.presets import optimize
from vaejax.presets.posteriors import build_encoder
from vaejax.presets.priors import build_prior
from vaejax.presets.signature import preset
from vaejax.training.schedules import epoch_warm_up

__all__ = ["vae_sylvester"]

TRAINING = Training(
    epochs=2000,
    batch_size=100,
    learning_rate=5e-4,
    patience=101,
    evaluate_every=1,
    checkpoint_every=5000,
)


@preset(tiny={"channels": (3, 4)})
def vae_sylvester(
    *,
    data: Data = Data(dataset="binarized_mnist", binarize="none"),
    latent: Latents = Latents(64),
    channels: tuple[int, ...] = (32, 64),
    warm_up: int = 100,
    training: Training = TRAINING,
) -> Experiment:
    """The gated convolutional VAE that flows are compared on [Berg et al. 2018].

    Encoder and decoder of six gated convolutions (5x5, two of stride 2, one over all
    that is left), 64 latents with sigma^2 = softplus of a linear layer; Adamax at 5e-4
    with epsilon 1e-7 in batches of 100. The ELBO is of one draw, its KL term too, whose
    weight rises epoch by epoch to 1; training ends after 101 epochs that were no better
    on validation data, none of them in the warm-up. All is as in the authors' code; the
    paper's own figures are of static MNIST.

    Args:
      channels: of the convolutions before and after the image is halved once.
      warm_up: epochs in which the weight of the KL term rises; 0: none.
    """
    require(warm_up >= 0, "warm_up", warm_up, "at least 0")
    two = len(channels) == 2 and min(channels) >= 1
    require(two, "channels", channels, "two widths of at least 1")
    view = a.open_data(data, li.Bernoulli())
    check_sides(view)
    low, high = channels
    each = epoch_steps(view.dataset, training)
    made = a.one_player(
        sylvester_vae(view, latent, (low, high)),
        partial(objectives.averaged_elbo, samples=1),
        view,
        training,
        a.latent_metrics(latent.size, view),
        {"beta": epoch_warm_up(warm_up, each)},
    )
    rate = optimize.scheduled_rate(training, each * training.epochs)
    adamax = optimize.clipped(training, optax.adamax(rate, eps=1e-7))
    return optimize.optimized_by(made, adamax)


def sylvester_vae(view: a.View, latent: Latents, channels: tuple[int, int]) -> VAE:
    """The model of `vae_sylvester`."""
    spec = view.dataset.spec
    head = GaussianHead(latent.latents, softplus_scale, TORCH)
    encoder = build_encoder(GatedConvEncoder(channels), latent, base=head)
    decoder = Decoder(GatedConvDecoder(spec.shape, channels), view.likelihood)
    prior = build_prior(latent, encoder, spec, view.preprocess)
    return VAE(encoder=encoder, decoder=decoder, prior=prior)


def check_sides(view: a.View) -> None:
    """InputError where the data are no images whose sides can be halved twice."""
    spec = view.dataset.spec
    require_images(spec, "this preset", ": use vae")
    height, width, _ = spec.shape
    if height % 4 or width % 4:
        raise InputError(
            f"this preset halves images twice, and those of {spec.name} are {height} x "
            f"{width}: resize them by --image-size to a multiple of 4, or use vae_conv"
        )
