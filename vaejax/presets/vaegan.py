"""VAE-GAN as a preset for any data, as its paper has it, and as its code has it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import optax

from vaejax import objectives
from vaejax.configs import Critic, Data, Network, Training
from vaejax.errors import InputError, require
from vaejax.experiment import Experiment, Gate, Metric, Player
from vaejax.metrics import active_units, autoencoding, count, critic_scores
from vaejax.models import (
    CVAEGAN,
    Classifier,
    CriticNetwork,
    CriticVAE,
    GaussianEncoder,
    StandardNormal,
)
from vaejax.nn import networks as net
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.signature import preset
from vaejax.training.gating import equilibrium
from vaejax.types import Objective

GREY = Data(binarize="none")
adversarial, larsen = objectives.adversarial, objectives.vaegan
FAKES = {"both": adversarial.rebuilt, "prior": adversarial.generated}


def vaegan_metrics(latents: int, subjects: Callable) -> Mapping[str, Metric]:
    """What is reported of models with an encoder and a critic of x."""
    return {
        "autoencoding": autoencoding(),
        "critic": critic_scores(subjects),
        "active_units": active_units(latents),
        "count": count(),
    }


@preset
def vaegan(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512), latents=10),
    critic: Critic = Critic(r1=1.0),
    fakes: Literal["both", "prior"] = "both",
    layer: int = 1,
    gamma: float = 1.0,
    beta: float = 0.02,
    adversarial_weight: float = 1.0,
    training: Training = Training(epochs=100, batch_size=64, learning_rate=3e-4),
) -> Experiment:
    """The VAE-GAN, for any data [Larsen et al. 2016].

    Args:
      fakes: what the critic sees: samples of the prior and reconstructions, or samples
        alone.
      layer: of the critic in whose features x is reconstructed; 0 is x itself.
      gamma: weight of the decoder's reconstruction (content).
      beta: weight of the encoder's KL term; features are small beside the unit
        sigma of their likelihood, and at beta = 1 the latents would hold nothing.
      adversarial_weight: of what fools the critic (style).
    """
    view = arena.open_generator_data(data)
    body, steps = a.bodies(network, view.dataset), arena.total_steps(view, training)
    judge = arena.critic_of(network, critic, view.dataset)
    check_layer(layer, network, critic)
    model = CriticVAE(
        encoder=GaussianEncoder(body.encoder, network.latents),
        decoder=a.build_decoder(body, view),
        critic=judge,
        prior=StandardNormal(network.latents),
    )
    shown = FAKES[fakes]
    encode = partial(larsen.encoder, layer=layer, beta=beta)
    decode = partial(
        larsen.decoder,
        layer=layer,
        loss=adversarial.LOSSES[critic.loss],
        subjects=shown,
        gamma=gamma,
        adversarial=adversarial_weight,
    )
    players = {
        "encoder": arena.opponent(encode, ("encoder",), critic, training, steps),
        "decoder": arena.opponent(decode, ("decoder",), critic, training, steps),
        "critic": arena.critic_player(critic, training, steps, shown),
    }
    metrics = vaegan_metrics(network.latents, shown)
    return arena.game(model, players, view, training, metrics, "mse")


def check_layer(layer: int, network: Network, critic: Critic) -> None:
    """InputError where the critic has no such layer."""
    conv = network.body in ("conv", "residual")
    dense = (
        0 if network.body == "linear" else len(critic.critic_hidden or network.hidden)
    )
    most = 3 if conv else dense
    if not 0 <= layer <= most:
        raise InputError(f"--layer {layer}: the critic has layers 0 to {most}")


class Widths(NamedTuple):
    """Channels of the stages, and units of the dense layer: of networks, and critic."""

    networks: tuple[int, ...] = (64, 128, 256)
    dense: int = 1024
    critic: tuple[int, ...] = (32, 128, 256)
    critic_dense: int = 512


WIDTHS = Widths()
"""Those of Larsen et al. 2016."""


def published(
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
    if view.dataset.spec.kind != "image":
        raise InputError("this preset is for images: use vaegan for a table")
    wide, dense, critic_wide, critic_dense = WIDTHS
    body = a.Bodies(
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
    return published(
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
    return published(
        data,
        training,
        latents=latents,
        weights=(content, 1 - content),
        subjects=adversarial.generated,
        gates=equilibrium(level, margin),
        optimizer=optax.chain(optax.add_decayed_weights(1e-5), optax.rmsprop(rate)),
        norms=("batch", "batch"),
    )


@preset
def cvaegan(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512), latents=32),
    critic: Critic = Critic(r1=1.0),
    beta: float = 3.0,
    pixels: float = 1.0,
    critic_features: float = 1.0,
    class_features: float = 1.0,
    mean_matching: float = 1e-3,
    class_matching: float = 1e-3,
    adversarial_weight: float = 0.0,
    training: Training = Training(epochs=60, batch_size=64, learning_rate=3e-4),
) -> Experiment:
    """The CVAE-GAN: encoder, generator, critic, classifier [Bao et al. 2017].

    Defaults are the weights of the paper. Means are taken over the batch, where the
    paper has moving averages. The critic's fakes are Dec(z_p) alone; whether those of
    the paper include reconstructions could not be checked.

    Args:
      beta: weight of the KL term (the paper's lambda 1).
      pixels: weight of pairwise matching of x itself.
      critic_features: of pairwise matching of the critic's features.
      class_features: of pairwise matching of the classifier's features.
      mean_matching: of the critic's mean features (lambda 3).
      class_matching: of the classifier's mean features by class (lambda 4).
      adversarial_weight: of what fools the critic; the paper has none.
    """
    view = arena.open_generator_data(data)
    given = a.label(view.dataset)
    body, steps = a.bodies(network, view.dataset), arena.total_steps(view, training)
    model = CVAEGAN(
        encoder=GaussianEncoder(body.encoder, network.latents, given),
        decoder=a.build_decoder(body, view, given),
        critic=arena.critic_of(network, critic, view.dataset),
        classifier=Classifier(
            arena.critic_body(network, Critic(), view.dataset), given.classes
        ),
        prior=StandardNormal(network.latents),
    )
    shown = adversarial.generated
    pairs = {"pixels": pixels, "critic": critic_features, "classes": class_features}
    decode = partial(
        larsen.decoder_pairwise,
        loss=adversarial.LOSSES[critic.loss],
        subjects=shown,
        mean=mean_matching,
        class_mean=class_matching,
        adversarial=adversarial_weight,
        **pairs,
    )
    encode = partial(larsen.encoder_pairwise, beta=beta, **pairs)
    players = {
        "encoder": arena.opponent(encode, ("encoder",), critic, training, steps),
        "decoder": arena.opponent(decode, ("decoder",), critic, training, steps),
        "critic": arena.critic_player(critic, training, steps, shown),
        "classifier": arena.opponent(
            larsen.classify, ("classifier",), critic, training, steps
        ),
    }
    metrics = vaegan_metrics(network.latents, shown)
    return arena.game(model, players, view, training, metrics, "mse")
