"""Presets for any dataset: their settings are many, their defaults sensible."""

from functools import partial

from vaejax import objectives
from vaejax.configs import Data, Network, Training, Weight
from vaejax.errors import require
from vaejax.experiment import Experiment
from vaejax.metrics import count, reconstruction_error
from vaejax.models import VAE, DeterministicEncoder, StandardNormal
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.signature import preset


@preset
def vae(
    *,
    data: Data = Data(),
    network: Network = Network(),
    weight: Weight = Weight(),
    free_bits: float = 0.0,
    training: Training = Training(epochs=100, batch_size=64, decay="cosine"),
) -> Experiment:
    """The variational autoencoder, for any data [Kingma & Welling 2014].

    Args:
      free_bits: nats of KL of each latent that are not pushed down.
    """
    require(free_bits >= 0, "free_bits", free_bits, "at least 0")
    objective = partial(objectives.elbo, free_bits=free_bits)
    return a.generic_vae(data, network, training, objective, beta=weight)


@preset
def beta_vae(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(latents=10),
    weight: Weight = Weight(beta=4.0),
    training: Training = Training(epochs=60),
) -> Experiment:
    """The beta-VAE: a heavier KL term [Higgins et al. 2017]."""
    return a.generic_vae(data, network, training, objectives.elbo, beta=weight)


@preset
def annealed_vae(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(latents=10),
    capacity: float = 25.0,
    growth: float = 50.0,
    gamma: float = 100.0,
    training: Training = Training(epochs=60),
) -> Experiment:
    """A KL held at a capacity that grows in training [Burgess et al. 2018].

    Args:
      capacity: KL in nats at the end of its growth.
      growth: epochs in which the capacity grows from zero.
      gamma: weight of the distance between KL and capacity.
    """
    require(capacity >= 0, "capacity", capacity, "at least 0")
    require(growth > 0, "growth", growth, "above 0")
    target = Weight(beta=capacity, schedule="linear", warm_up=growth)
    objective = partial(objectives.capacity, gamma=gamma)
    return a.generic_vae(data, network, training, objective, target=target)


@preset
def iwae(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(200, 200), latents=50),
    samples: int = 5,
    weight: Weight = Weight(),
    training: Training = Training(epochs=60, decay="cosine"),
) -> Experiment:
    """The importance-weighted autoencoder [Burda et al. 2016].

    Args:
      samples: importance samples k of the bound.
    """
    require(samples >= 1, "samples", samples, "at least 1")
    objective = partial(objectives.iwae, samples=samples)
    experiment = a.generic_vae(data, network, training, objective, beta=weight)
    return a.chosen_by_bound(experiment, samples)


@preset
def vae_conv(
    *,
    data: Data = Data(),
    network: Network = Network(body="conv", hidden=(256,), latents=32),
    weight: Weight = Weight(),
    training: Training = Training(epochs=30, decay="cosine"),
) -> Experiment:
    """The VAE with convolutional (or residual) networks, for images of any size.

    [Kingma & Welling 2014; residual stages: He et al. 2016]
    """
    return a.generic_vae(data, network, training, objectives.elbo, beta=weight)


@preset
def vae_residual_large(
    *,
    data: Data = Data(dataset="imagenet_resized/64x64"),
    network: Network = Network(
        body="residual",
        hidden=(512,),
        channels=(128, 256, 512, 512),
        blocks=3,
        remat=True,
        latents=512,
        likelihood="logistic_mixture",
    ),
    weight: Weight = Weight(),
    training: Training = Training(
        epochs=50,
        batch_size=2048,
        learning_rate=3e-4,
        decay="cosine",
        ema=0.9999,
        precision="bf16",
    ),
) -> Experiment:
    """A VAE for slices of accelerators: 100 M parameters on 64x64 colour images.

    [Kingma & Welling 2014; stages: He et al. 2016; likelihood: Salimans et al. 2017]
    """
    return a.generic_vae(data, network, training, objectives.elbo, beta=weight)


@preset
def autoencoder(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(latents=20),
    training: Training = Training(epochs=60),
) -> Experiment:
    """A deterministic autoencoder: beta = 0 and a point mass for a posterior.

    [Hinton & Salakhutdinov 2006]
    """
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    model = VAE(
        encoder=DeterministicEncoder(body.encoder, network.latents),
        decoder=a.build_decoder(body, view),
        prior=StandardNormal(network.latents),
    )
    metrics = {"reconstruction": reconstruction_error(), "count": count()}
    return a.one_player(
        model,
        objectives.reconstruction,
        view,
        training,
        lambda samples: metrics,
        selection=lambda values: values["distortion"],
    )
