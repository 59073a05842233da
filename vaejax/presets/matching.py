"""Presets whose aggregate posterior is matched to the prior as a whole."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

from vaejax import objectives
from vaejax.configs import Data, Latents, LatentSize, Network, Training
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Player
from vaejax.metrics import count, critic_scores, reconstruction_error
from vaejax.models import (
    VAE,
    CriticNetwork,
    CriticVAE,
    DeterministicEncoder,
    StandardNormal,
)
from vaejax.nn.networks import MLP, FlatEncoder
from vaejax.objectives.mmd import SCALES, Kernel, KernelName
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.disentangling import GREY, require_pairs, require_real_latents
from vaejax.presets.signature import preset

__all__ = ["info_vae", "wae"]

adversarial = objectives.adversarial
SQUARED = Network(likelihood="gaussian_fixed", sigma=0.5**0.5)
"""-log p(x | z) is the squared error and a constant."""
OWNS = ("encoder", "decoder")
BETA1 = 0.5
"""Decay of Adam's first moments in the authors' code."""
METRICS = {"reconstruction": reconstruction_error(), "count": count()}


class PriorCritic(NamedTuple):
    """Settings of the critic of a WAE-GAN, as its authors' code has them for MNIST."""

    hidden: tuple[int, ...] = (512,) * 4
    learning_rate: float = 5e-4

    def check(self) -> None:
        """InputError where a setting is out of range."""
        rate, hidden = self.learning_rate, self.hidden
        require(rate > 0, "critic_learning_rate", rate, "above 0")
        widths = bool(hidden) and min(hidden) >= 1
        require(widths, "critic_hidden", hidden, "widths of at least 1")


def kernel_of(name: KernelName, scales: tuple[float, ...]) -> Kernel:
    """The kernel of the settings."""
    positive = bool(scales) and min(scales) > 0
    require(positive, "scales", scales, "above 0, one or more")
    return Kernel(name, tuple(scales))


@preset
def info_vae(
    *,
    data: Data = GREY,
    network: Network = Network(),
    latent: Latents = Latents(10),
    alpha: float = 1.0,
    strength: float = 100.0,
    kernel: KernelName = "imq",
    scales: tuple[float, ...] = SCALES,
    training: Training = Training(epochs=60),
) -> Experiment:
    """The InfoVAE: a lighter KL term, and an MMD of q(z) to p(z) [Zhao et al. 2019].

    Of the family the maximum mean discrepancy; with alpha = 1 it is the MMD-VAE. A
    learned prior learns from its draws too, but for the weights of a mixture.

    Args:
      alpha: 1 - weight of the KL term: 0 is a VAE beside the discrepancy, 1 has no KL.
      strength: weight of the discrepancy (lambda), to which alpha - 1 is added.
      kernel: of the discrepancy; imq: inverse multiquadric; rbf: Gaussian.
      scales: of the widths of the kernels that are added.
    """
    require(0 <= alpha <= 1, "alpha", alpha, "in [0, 1]")
    require(strength >= 0, "strength", strength, "at least 0")
    require_pairs(training)
    require_real_latents(latent, "info_vae compares real latents")
    objective = partial(
        objectives.info,
        alpha=alpha,
        strength=strength,
        kernel=kernel_of(kernel, scales),
    )
    return a.generic_vae(data, network, latent, training, objective)


@preset(tiny={"match": "gan", "critic_hidden": (8,)})
def wae(
    *,
    data: Data = GREY,
    network: Network = SQUARED,
    latent: LatentSize = LatentSize(8),
    match: Literal["mmd", "gan"] = "mmd",
    strength: float = 200.0,
    kernel: KernelName = "imq",
    scales: tuple[float, ...] = SCALES,
    critic_hidden: tuple[int, ...] = (512,) * 4,
    critic_learning_rate: float = 5e-4,
    training: Training = Training(epochs=60, batch_size=100),
) -> Experiment:
    """The Wasserstein autoencoder, by MMD or by a critic of z [Tolstikhin et al. 2018].

    Reconstructions cost their squared error, encoders are deterministic. Beside that
    cost a strength of 200 is what the authors' code has for MNIST: theirs is 10, and
    the error counts a twentieth. Critics of z are as in their code 4 layers of 512 with
    half the others' learning rate; all of Adam's first moments decay by .5.

    Args:
      match: q(z) is matched to p(z) by mmd, a kernel's discrepancy, or gan, a critic.
      strength: weight of the match (lambda).
      kernel: of mmd; imq: inverse multiquadric; rbf: Gaussian.
      scales: of the widths of the kernels that are added.
      critic_hidden: widths of the dense layers of gan's critic.
      critic_learning_rate: learning rate of gan's critic.
    """
    require(strength >= 0, "strength", strength, "at least 0")
    own = PriorCritic(tuple(critic_hidden), critic_learning_rate)
    own.check()
    chosen = kernel_of(kernel, scales)
    require_pairs(training)
    if match == "mmd" and own != PriorCritic():
        raise InputError(
            "--critic-hidden and --critic-learning-rate are of --match gan: choose it"
        )
    if match == "gan" and chosen != Kernel():
        raise InputError("--kernel and --scales are of --match mmd: choose it")
    view = a.open_data(data, network)
    body = build_bodies(network, view.dataset)
    parts = {
        "encoder": DeterministicEncoder(body.encoder, latent.latents),
        "decoder": a.build_decoder(body, view),
        "prior": StandardNormal(latent.latents),
    }
    if match == "gan":
        return told_by_critic(parts, view, training, strength, own)
    objective = partial(objectives.wasserstein, strength=strength, kernel=chosen)
    moves = a.adam(training, arena.total_steps(view, training), BETA1)
    players = {"autoencoder": Player(objective, moves, OWNS)}
    return arena.game(VAE(**parts), players, view, training, METRICS, "distortion")


def told_by_critic(
    parts: Mapping[str, Any],
    view: a.View,
    training: Training,
    strength: float,
    critic: PriorCritic,
) -> Experiment:
    """The WAE-GAN: a critic tells encodings from draws of the prior."""
    loss = adversarial.LOSSES["logistic"]
    fool = partial(adversarial.autoencode, loss=loss, adversarial=strength)
    tell = partial(adversarial.critic, loss=loss, subjects=adversarial.encoded)
    steps = arena.total_steps(view, training)
    own = dataclasses.replace(training, learning_rate=critic.learning_rate)
    players = {
        "autoencoder": Player(fool, a.adam(training, steps, BETA1), OWNS),
        "critic": Player(tell, a.adam(own, steps, BETA1), ("critic",)),
    }
    metrics = {**METRICS, "critic": critic_scores(adversarial.encoded)}
    judge = CriticNetwork(FlatEncoder(MLP(critic.hidden)))
    model = CriticVAE(**parts, critic=judge)
    return arena.game(model, players, view, training, metrics, "distortion")
