"""Presets of published models: few settings, everything else as in the source."""

import math

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Training, Weight
from vaejax.experiment import Experiment
from vaejax.models import likelihoods as li
from vaejax.presets import assemble as a
from vaejax.presets.bodies import mlp_bodies
from vaejax.presets.signature import preset

__all__ = ["pca", "vae_flax_example", "vae_mlp_2d"]


@preset
def vae_mlp_2d(
    *,
    data: Data = Data(binarize="none"),
    weight: Weight = Weight(),
    training: Training = Training(epochs=100, batch_size=256),
) -> Experiment:
    """The textbook VAE with two latents, whose latent plane people plot.

    784-128-2-128-784 with LeakyReLU, squared error + beta * KL [Kingma & Welling 2014]:
    the squared error is the Gaussian likelihood with sigma^2 = 1/2, up to a constant.
    """
    view = a.open_data(data, li.GaussianFixed(math.sqrt(0.5)))
    body = mlp_bodies((128,), "leaky_relu")
    return a.vae_game(body, Latents(2), view, training, objectives.elbo, beta=weight)


@preset
def vae_flax_example(
    *,
    data: Data = Data(dataset="binarized_mnist", binarize="none"),
    training: Training = Training(epochs=30),
) -> Experiment:
    """The VAE of Flax's examples, 784-500-20 [Heek et al. 2020, examples/vae]."""
    view = a.open_data(data, li.Bernoulli())
    body = mlp_bodies((500,), "relu")
    return a.vae_game(body, Latents(20), view, training, objectives.elbo)


@preset
def pca(
    *,
    data: Data = Data(binarize="none"),
    latent: LatentSize = LatentSize(10),
    training: Training = Training(epochs=200, learning_rate=1e-2, decay="cosine"),
) -> Experiment:
    """Probabilistic PCA as a linear VAE [Tipping & Bishop 1999; Lucas et al. 2019].

    Linear encoder and decoder, one learned sigma: at its optimum the ELBO is the exact
    log-likelihood of probabilistic PCA.
    """
    view = a.open_data(data, li.Gaussian())
    body = mlp_bodies((), "relu")
    return a.vae_game(body, Latents(latent.latents), view, training, objectives.elbo)
