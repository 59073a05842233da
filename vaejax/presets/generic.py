"""Presets for any dataset: their settings are many, their defaults sensible."""

from functools import partial
from typing import Literal

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training, Weight
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment
from vaejax.metrics import count, reconstruction_error
from vaejax.models import (
    VAE,
    DeterministicEncoder,
    GaussianNetwork,
    StandardNormal,
    TwoLayerVAE,
)
from vaejax.presets import assemble as a
from vaejax.presets.bodies import DENSE, LONG, build_bodies, dense_layers
from vaejax.presets.bounds import Importance, trained_by_bound
from vaejax.presets.priors import build_prior
from vaejax.presets.signature import preset

__all__ = [
    "annealed_vae",
    "autoencoder",
    "beta_vae",
    "iwae",
    "vae",
    "vae_conv",
    "vae_residual_large",
    "vae_two_layer",
]


@preset
def vae(
    *,
    data: Data = Data(),
    network: Network = DENSE,
    latent: Latents = Latents(),
    weight: Weight = Weight(),
    free_bits: float = 0.0,
    gradient: Literal["pathwise", "stl"] = "pathwise",
    training: Training = LONG,
) -> Experiment:
    """The variational autoencoder, for any data [Kingma & Welling 2014].

    Args:
      free_bits: nats of KL left alone: of each latent, or of all if p(z) is joint.
      gradient: pathwise; or stl, which sticks the landing: less noise near the end.
    """
    require(free_bits >= 0, "free_bits", free_bits, "at least 0")
    objective = partial(objectives.elbo, free_bits=free_bits)
    if gradient == "stl":
        if isinstance(free_bits, float | int) and free_bits > 0:
            raise InputError(
                "--gradient stl has no KL of each latent that --free-bits could leave "
                "alone: choose one"
            )
        objective = partial(objectives.averaged_elbo, gradient=gradient)
    return a.generic_vae(data, network, latent, training, objective, beta=weight)


@preset(tiny={"schedule": "cosine", "warm_up": 0.1})
def beta_vae(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(),
    latent: Latents = Latents(10),
    weight: Weight = Weight(beta=4.0),
    training: Training = Training(epochs=60),
) -> Experiment:
    """The beta-VAE: a heavier KL term [Higgins et al. 2017]."""
    return a.generic_vae(data, network, latent, training, objectives.elbo, beta=weight)


@preset
def annealed_vae(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(),
    latent: Latents = Latents(10),
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
    return a.generic_vae(data, network, latent, training, objective, target=target)


@preset(tiny={"samples": 2})
def iwae(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(200, 200)),
    latent: Latents = Latents(50),
    importance: Importance = Importance(samples=5),
    weight: Weight = Weight(),
    training: Training = Training(epochs=60, decay="cosine"),
) -> Experiment:
    """The importance-weighted autoencoder, and other bounds of several draws.

    [Burda et al. 2016; multiply, partially, combination: Rainforth et al. 2018; renyi,
    max: Li & Turner 2016]
    """
    objective = objectives.weighted
    experiment = a.generic_vae(data, network, latent, training, objective, beta=weight)
    return trained_by_bound(experiment, importance)


@preset(tiny={"lower_hidden": (8,), "lower_latents": 4})
def vae_two_layer(
    *,
    data: Data = Data(),
    network: Network = Network(hidden=(200, 200), activation="tanh"),
    latent: Latents = Latents(50),
    lower_latents: int = 100,
    lower_hidden: tuple[int, ...] = (100, 100),
    importance: Importance = Importance(samples=1),
    weight: Weight = Weight(),
    training: Training = Training(epochs=200, batch_size=64, decay="cosine"),
) -> Experiment:
    """Two blocks of latents, z2 above z1, by an importance bound [Burda et al. 2016].

    With one sample the bound is the ELBO. The networks are those of their section 5.

    Args:
      lower_latents: latents of z1, from which x is decoded; `latents` are those of z2.
        `--posterior` is that of z1, `--prior` that of z2.
      lower_hidden: widths of the dense layers from z1 to z2, mirrored on the way down.
    """
    require(lower_latents >= 1, "lower_latents", lower_latents, "at least 1")
    view = a.open_data(data, network)
    if latent.prior == "vamp":
        raise InputError(
            "vae_two_layer infers z2 from z1, of which vamp learns no inputs: choose "
            "--prior mixture"
        )
    if latent.posterior == "categorical":
        raise InputError(
            "vae_two_layer has real numbers for z1, and --posterior categorical none: "
            "choose another, or vae"
        )
    body = build_bodies(network, view.dataset)
    lower = a.vae_model(body, latent.of_posterior(lower_latents), view)
    spec, preprocess = view.dataset.spec, view.preprocess
    up, down = (
        dense_layers(widths, network) for widths in (lower_hidden, lower_hidden[::-1])
    )
    model = TwoLayerVAE(
        encoder=lower.encoder,
        top_encoder=GaussianNetwork(up, latent.latents),
        decoder=lower.decoder,
        top_decoder=GaussianNetwork(down, lower_latents),
        prior=build_prior(latent.of_prior(), lower.encoder, spec, preprocess),
    )
    experiment = a.one_player(
        model,
        objectives.weighted,
        view,
        training,
        a.latent_metrics(
            lower_latents, view, {"z1": lower_latents, "z2": latent.latents}
        ),
        {"beta": a.weight_schedule(weight, training, view.dataset)},
    )
    return trained_by_bound(experiment, importance)


@preset(tiny={"channels": (4, 8), "likelihood": "gaussian_optimal"})
def vae_conv(
    *,
    data: Data = Data(),
    network: Network = Network(body="conv", hidden=(256,)),
    latent: Latents = Latents(32),
    weight: Weight = Weight(),
    training: Training = Training(epochs=30, decay="cosine"),
) -> Experiment:
    """The VAE with convolutional (or residual) networks, for images of any size.

    [Kingma & Welling 2014; residual stages: He et al. 2016]
    """
    return a.generic_vae(data, network, latent, training, objectives.elbo, beta=weight)


@preset(tiny={"channels": (8,), "blocks": 1})
def vae_residual_large(
    *,
    data: Data = Data(dataset="imagenet_resized/64x64"),
    network: Network = Network(
        body="residual",
        hidden=(512,),
        channels=(128, 256, 512, 512),
        blocks=3,
        remat=True,
        likelihood="logistic_mixture",
    ),
    latent: Latents = Latents(512),
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
    return a.generic_vae(data, network, latent, training, objectives.elbo, beta=weight)


@preset
def autoencoder(
    *,
    data: Data = Data(binarize="none"),
    network: Network = Network(),
    latent: LatentSize = LatentSize(20),
    training: Training = Training(epochs=60),
) -> Experiment:
    """A deterministic autoencoder: beta = 0 and a point mass for a posterior.

    [Hinton & Salakhutdinov 2006]
    """
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    model = VAE(
        encoder=DeterministicEncoder(body.encoder, latent.latents),
        decoder=a.build_decoder(body, view),
        prior=StandardNormal(latent.latents),
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
