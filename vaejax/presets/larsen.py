"""The VAE-GAN as its paper and its authors' code have it [Larsen et al. 2016]."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import optax

from vaejax import objectives
from vaejax.configs import Data, Training
from vaejax.data.kinds import require_images
from vaejax.errors import require
from vaejax.experiment import Experiment, Gate, Player
from vaejax.models import (
    CriticNetwork,
    CriticVAE,
    GaussianEncoder,
    StandardNormal,
)
from vaejax.nn import networks as net
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import Bodies
from vaejax.presets.signature import preset
from vaejax.presets.vae_gan import GREY, vaegan_metrics
from vaejax.training.gating import equilibrium
from vaejax.types import Objective

__all__ = ["vaegan_authors_code", "vaegan_paper"]

adversarial, larsen = objectives.adversarial, objectives.vaegan


class Widths(NamedTuple):
    """Channels of the stages, and units of the dense layer: of networks, and critic."""

    networks: tuple[int, ...] = (64, 128, 256)
    dense: int = 1024
    critic: tuple[int, ...] = (32, 128, 256)
    critic_dense: int = 512


WIDTHS = Widths()
"""Those of Larsen et al. 2016."""


def larsen_recipe(
    data: Data,
    training: Training,
    *,
    latents: int,
    weights: tuple[float, float],
    subjects: Callable,
    gates: Mapping[str, Gate],
    optimizer: optax.GradientTransformation,
    norms: tuple[str, str],
) -> Experiment:
    """The convolutional VAE-GAN of Larsen et al. 2016, for images of any size.

    `weights` are those of content and style in the decoder; `norms` those of encoder
    and decoder, and of the critic. The critic's features are its third layer.
    """
    view = arena.open_generator_data(data)
    require_images(view.dataset.spec, "this preset", ": use vaegan")
    wide, dense, critic_wide, critic_dense = WIDTHS
    body = Bodies(
        net.ConvEncoder(wide, dense, 0, norms[0]),
        lambda shape: net.ConvDecoder(tuple(shape), wide, dense, 0, norms[0]),
    )
    model = CriticVAE(
        encoder=GaussianEncoder(body.encoder, latents),
        decoder=a.build_decoder(body, view),
        critic=CriticNetwork(net.ConvEncoder(critic_wide, critic_dense, 0, norms[1])),
        prior=StandardNormal(latents),
    )
    content, style = weights
    logistic = {"loss": adversarial.LOSSES["minimax"], "subjects": subjects}
    moves: Mapping[str, Objective] = {
        "encoder": partial(larsen.encoder, layer=3),
        "decoder": partial(
            larsen.decoder, layer=3, gamma=content, adversarial=style, **logistic
        ),
        "critic": partial(adversarial.critic, **logistic),
    }
    players = {
        name: Player(objective, optimizer, (name,), gate=gates.get(name))
        for name, objective in moves.items()
    }
    metrics = vaegan_metrics(latents, subjects)
    return arena.game(model, players, view, training, metrics, "mse")


@preset
def vaegan_paper(
    *,
    data: Data = GREY,
    latents: int = 128,
    gamma: float = 1e-2,
    training: Training = Training(epochs=250, batch_size=64, learning_rate=3e-4),
) -> Experiment:
    """The VAE-GAN as its paper describes it [Larsen et al. 2016, alg. 1].

    Where it differs from `vaegan_authors_code`: the critic sees x, Dec(Enc(x)) and
    Dec(z_p); the decoder minimizes gamma * content + style; every player moves in
    every step; RMSProp with a constant rate. The paper gives no number for gamma: the
    default is ours.

    Args:
      latents: number of latents.
      gamma: the style weight, of the reconstruction in the decoder.
    """
    require(gamma >= 0, "gamma", gamma, "at least 0")
    return larsen_recipe(
        data,
        training,
        latents=latents,
        weights=(gamma, 1.0),
        subjects=adversarial.rebuilt,
        gates={},
        optimizer=optax.rmsprop(training.learning_rate),
        norms=("batch", "batch"),
    )


@preset
def vaegan_authors_code(
    *,
    data: Data = GREY,
    latents: int = 128,
    content: float = 1e-6,
    level: float = 0.68,
    margin: float = 0.35,
    training: Training = Training(epochs=250, batch_size=64, learning_rate=0.025 / 64),
) -> Experiment:
    """The VAE-GAN as its authors' code trains it on CelebA [Larsen et al. 2016].

    Where it differs from `vaegan_paper`: the critic sees x and Dec(z_p) only; the
    decoder minimizes w * content + (1 - w) * style with w = 1e-6; the critic and the
    decoder rest when one of them is too strong (see `gates.equilibrium`); the rate of
    RMSProp falls geometrically to 1e-5 / 64, and weights decay by 1e-5. Left out: the
    1e-3 inside its logarithms, which scores as logits do not need, and the blur and
    the shifts of its images. The networks are not its own: it has 5x5 kernels (here
    3x3), a critic of four convolutions, the first without a stride (here three, all of
    stride 2), whose features are the output of the third of stride 2 before BatchNorm
    and ReLU (here after both), and a decoder that ends in tanh (here in a sigmoid).

    Args:
      latents: number of latents.
      content: w, the weight of the reconstruction in the decoder.
      level: the cost of a critic at equilibrium, about log 2.
      margin: how far a cost may be from it before a player rests.
    """
    require(0 <= content <= 1, "content", content, "in [0, 1]")
    require(margin > 0, "margin", margin, "above 0")
    view = arena.open_generator_data(data)
    steps = arena.total_steps(view, training)
    rate = optax.exponential_decay(
        training.learning_rate, steps, 1e-5 / 64 / training.learning_rate
    )
    return larsen_recipe(
        data,
        training,
        latents=latents,
        weights=(content, 1 - content),
        subjects=adversarial.generated,
        gates=equilibrium(level, margin),
        optimizer=optax.chain(optax.add_decayed_weights(1e-5), optax.rmsprop(rate)),
        norms=("batch", "batch"),
    )
