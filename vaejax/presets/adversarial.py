"""Presets with a critic of samples, of latents, or of both."""

from functools import partial
from typing import Literal

from vaejax import objectives
from vaejax.configs import Critic, Data, LatentSize, Network, Training
from vaejax.errors import InputError
from vaejax.experiment import Experiment
from vaejax.metrics import autoencoding, count, critic_scores, reconstruction_error
from vaejax.models import (
    GAN,
    CriticNetwork,
    CriticVAE,
    DeterministicEncoder,
    GaussianEncoder,
    JointCritic,
    StandardNormal,
)
from vaejax.nn.networks import MLP, FlatEncoder
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.choice import pick
from vaejax.presets.signature import preset

__all__ = ["aae", "ali", "gan", "gan_conv", "wgan_gp"]

GREY = Data(binarize="none")
adversarial = objectives.adversarial
Condition = Literal["none", "concatenate", "projection"]


def gan_game(
    data: Data,
    network: Network,
    latent: LatentSize,
    critic: Critic,
    condition: str,
    training: Training,
) -> Experiment:
    """Generator against critic, on any data."""
    view = arena.open_generator_data(data)
    given = None if condition == "none" else a.label(view.dataset)
    body, steps = (
        build_bodies(network, view.dataset),
        arena.total_steps(view, training),
    )
    model = GAN(
        generator=a.build_decoder(body, view, given),
        critic=arena.critic_of(
            network, critic, view.dataset, given, condition == "projection"
        ),
        prior=StandardNormal(latent.latents),
    )
    fool = partial(
        adversarial.generator,
        loss=adversarial.LOSSES[critic.loss],
        subjects=adversarial.generated,
    )
    players = {
        "generator": arena.opponent(fool, ("generator",), critic, training, steps),
        "critic": arena.critic_player(critic, training, steps, adversarial.generated),
    }
    metrics = {"critic": critic_scores(adversarial.generated), "count": count()}
    if training.patience:
        raise InputError(
            "--patience has nothing to go by: the critic's gap does not measure "
            "samples, and an untrained critic has the least; train for all --epochs"
        )
    return arena.game(model, players, view, training, metrics, "gap")


@preset(tiny={"condition": "projection"})
def gan(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512)),
    latent: LatentSize = LatentSize(64),
    critic: Critic = Critic(r1=1.0),
    condition: Condition = "none",
    training: Training = Training(epochs=200, batch_size=64, learning_rate=2e-3),
) -> Experiment:
    """The generative adversarial network [Goodfellow et al. 2014].

    Non-saturating, with an R1 penalty, without which small data is soon learned by
    heart [Mescheder et al. 2018].

    Args:
      condition: on the label: beside z and x, or in the critic by projection.
    """
    return gan_game(data, network, latent, critic, condition, training)


@preset(tiny={"channels": (4, 8)})
def gan_conv(
    *,
    data: Data = GREY,
    network: Network = Network(body="conv", hidden=(256,)),
    latent: LatentSize = LatentSize(64),
    critic: Critic = Critic(critic_norm="spectral"),
    condition: Condition = "none",
    training: Training = Training(epochs=30, batch_size=64, learning_rate=2e-4),
) -> Experiment:
    """A convolutional GAN, spectral norm [Radford et al. 2016; Miyato et al. 2018].

    Args:
      condition: on the label: beside z and x, or in the critic by projection.
    """
    return gan_game(data, network, latent, critic, condition, training)


@preset(tiny={"critic_moves": 2})
def wgan_gp(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512)),
    latent: LatentSize = LatentSize(64),
    critic: Critic = Critic(
        loss="wasserstein",
        gradient_penalty=10.0,
        critic_moves=5,
        beta1=0.0,
        beta2=0.9,
    ),
    condition: Condition = "none",
    training: Training = Training(epochs=100, batch_size=64, learning_rate=1e-4),
) -> Experiment:
    """The Wasserstein GAN with gradient penalty [Gulrajani et al. 2017, alg. 1].

    Weight of the penalty, critic moves and Adam's settings are those of algorithm 1.
    Moves are simultaneous: the generator's is at the same batch as the critic's fifth.

    Args:
      condition: on the label: beside z and x, or in the critic by projection.
    """
    return gan_game(data, network, latent, critic, condition, training)


@preset
def aae(
    *,
    data: Data = Data(),
    network: Network = Network(),
    latent: LatentSize = LatentSize(8),
    critic: Critic = Critic(),
    adversarial_weight: float = 10.0,
    training: Training = Training(epochs=100, batch_size=64),
) -> Experiment:
    """The adversarial autoencoder: a critic of z [Makhzani et al. 2016].

    Args:
      adversarial_weight: weight of the adversarial term of codes, relative to nats.
    """
    arena.require_whole_body(critic, "latents")
    view = a.open_data(data, network)
    body, steps = (
        build_bodies(network, view.dataset),
        arena.total_steps(view, training),
    )
    model = CriticVAE(
        encoder=DeterministicEncoder(body.encoder, latent.latents),
        decoder=a.build_decoder(body, view),
        critic=CriticNetwork(
            FlatEncoder(MLP(network.hidden, norm=critic.critic_norm)),
            norm=critic.critic_norm,
        ),
        prior=StandardNormal(latent.latents),
    )
    autoencode = partial(
        adversarial.autoencode,
        loss=adversarial.LOSSES[critic.loss],
        adversarial=adversarial_weight,
    )
    owns = ("encoder", "decoder")
    players = {
        "autoencoder": arena.opponent(autoencode, owns, critic, training, steps),
        "critic": arena.critic_player(critic, training, steps, adversarial.encoded),
    }
    metrics = {
        "reconstruction": reconstruction_error(),
        "critic": critic_scores(adversarial.encoded),
        "count": count(),
    }
    return arena.game(model, players, view, training, metrics, "distortion")


@preset
def ali(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512)),
    latent: LatentSize = LatentSize(32),
    critic: Critic = Critic(r1=1.0),
    encoder: Literal["gaussian", "deterministic"] = "gaussian",
    training: Training = Training(epochs=200, batch_size=64, learning_rate=2e-4),
) -> Experiment:
    """Adversarially learned inference: a critic of pairs (x, z) [Dumoulin et al. 2017].

    Args:
      encoder: gaussian is ALI, deterministic BiGAN [Donahue et al. 2017].
    """
    arena.require_whole_body(critic, "pairs of an image and latents")
    view = arena.open_generator_data(data)
    body, steps = (
        build_bodies(network, view.dataset),
        arena.total_steps(view, training),
    )
    kinds = {"gaussian": GaussianEncoder, "deterministic": DeterministicEncoder}
    norm, width = critic.critic_norm, network.hidden[-1]
    model = CriticVAE(
        encoder=pick("encoder", encoder, kinds)(body.encoder, latent.latents),
        decoder=a.build_decoder(body, view),
        critic=JointCritic(
            arena.critic_body(network, critic, view.dataset),
            latents=MLP((width,), norm=norm),
            joint=MLP((width,), norm=norm),
            norm=norm,
        ),
        prior=StandardNormal(latent.latents),
    )
    both = partial(adversarial.bidirectional, loss=adversarial.LOSSES[critic.loss])
    owns = ("encoder", "decoder")
    players = {
        "generator": arena.opponent(both, owns, critic, training, steps),
        "critic": arena.critic_player(critic, training, steps, adversarial.paired),
    }
    metrics = {
        "autoencoding": autoencoding(kl=encoder == "gaussian"),
        "critic": critic_scores(adversarial.paired),
        "count": count(),
    }
    return arena.game(model, players, view, training, metrics, "mse")
