"""VAE-GAN as a preset for any data, as its paper has it, and as its code has it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from vaejax import objectives
from vaejax.configs import Critic, Data, LatentSize, Network, Training
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric
from vaejax.metrics import autoencoding, critic_scores, representation_metrics
from vaejax.models import (
    CVAEGAN,
    Classifier,
    CriticVAE,
    GaussianEncoder,
    StandardNormal,
)
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.signature import preset

__all__ = ["cvaegan", "vaegan"]

GREY = Data(binarize="none")
adversarial, larsen = objectives.adversarial, objectives.vaegan
FAKES = {"both": adversarial.rebuilt, "prior": adversarial.generated}


def vaegan_metrics(latents: int, subjects: Callable) -> Mapping[str, Metric]:
    """Metrics of models with an encoder and a critic of x."""
    return {
        "autoencoding": autoencoding(),
        "critic": critic_scores(subjects),
        **representation_metrics(latents),
    }


@preset
def vaegan(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512)),
    latent: LatentSize = LatentSize(10),
    critic: Critic = Critic(r1=1.0),
    fakes: Literal["both", "prior"] = "both",
    layer: int = 1,
    gamma: float = 1.0,
    beta: float = 0.02,
    adversarial_weight: float = 1.0,
    training: Training = Training(epochs=40, batch_size=64, learning_rate=2e-3),
) -> Experiment:
    """The VAE-GAN, for any data [Larsen et al. 2016].

    Args:
      fakes: what the critic sees: samples of the prior and reconstructions, or samples
        alone.
      layer: layer of the critic whose features are reconstructed; 0: x itself.
      gamma: weight of the decoder's reconstruction (content).
      beta: weight of the encoder's KL term; features are small beside the unit
        sigma of their likelihood, and at beta = 1 the latents would hold nothing.
      adversarial_weight: weight of the adversarial term (style).
    """
    view = arena.open_generator_data(data)
    body, steps = build_bodies(network, view.dataset), arena.total_steps(view, training)
    judge = arena.critic_of(network, critic, view.dataset)
    check_layer(layer, network, critic)
    model = CriticVAE(
        encoder=GaussianEncoder(body.encoder, latent.latents),
        decoder=a.build_decoder(body, view),
        critic=judge,
        prior=StandardNormal(latent.latents),
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
    metrics = vaegan_metrics(latent.latents, shown)
    return arena.game(model, players, view, training, metrics, "mse")


def check_layer(layer: int, network: Network, critic: Critic) -> None:
    """InputError where the critic has no such layer."""
    most = arena.layers_of_critic(network, critic)
    if not 0 <= layer <= most:
        raise InputError(f"--layer {layer}: the critic has layers 0 to {most}")


@preset
def cvaegan(
    *,
    data: Data = GREY,
    network: Network = Network(hidden=(512, 512)),
    latent: LatentSize = LatentSize(32),
    critic: Critic = Critic(r1=1.0),
    beta: float = 3.0,
    pixels: float = 1.0,
    critic_features: float = 1.0,
    class_features: float = 1.0,
    mean_matching: float = 1e-3,
    class_matching: float = 1e-3,
    adversarial_weight: float = 0.0,
    training: Training = Training(epochs=60, batch_size=64, learning_rate=2e-3),
) -> Experiment:
    """The CVAE-GAN: encoder, generator, critic, classifier [Bao et al. 2017].

    Defaults are the weights of the paper. Means are taken over the batch, where the
    paper has moving averages. The critic's fakes are Dec(z_p) alone; whether those of
    the paper include reconstructions could not be checked.

    Args:
      beta: weight of the KL term (the paper's lambda 1).
      pixels: weight of pairwise matching of x itself.
      critic_features: weight of pairwise matching of the critic's features.
      class_features: weight of pairwise matching of the classifier's features.
      mean_matching: weight of the critic's mean features (lambda 3).
      class_matching: weight of the classifier's mean features by class (lambda 4).
      adversarial_weight: weight of the adversarial term; the paper has none.
    """
    view = arena.open_generator_data(data)
    given = a.label(view.dataset)
    body, steps = build_bodies(network, view.dataset), arena.total_steps(view, training)
    model = CVAEGAN(
        encoder=GaussianEncoder(body.encoder, latent.latents, given),
        decoder=a.build_decoder(body, view, given),
        critic=arena.critic_of(network, critic, view.dataset),
        classifier=Classifier(
            arena.critic_body(network, Critic(), view.dataset), given.classes
        ),
        prior=StandardNormal(latent.latents),
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
    metrics = vaegan_metrics(latent.latents, shown)
    return arena.game(model, players, view, training, metrics, "mse")
