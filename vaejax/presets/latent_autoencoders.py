"""First stages of latent diffusion and of token models: KL or codes, with a critic."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vaejax import metrics, objectives
from vaejax.configs import Critic, Data, Network, Training
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric, Player
from vaejax.metrics.perceptual import OpenedLater
from vaejax.models import VAE, CriticVAE, QuantizedVAE, StandardNormal
from vaejax.models import latent_autoencoder as la
from vaejax.models.likelihoods import Likelihood
from vaejax.nn.feature_maps import FeatureMapDecoder, FeatureMapEncoder
from vaejax.objectives.latent_autoencoder import (
    MOST,
    BottleneckTerms,
    Perceived,
    code_bottleneck,
    kl_bottleneck,
)
from vaejax.presets import arena
from vaejax.presets import assemble as a
from vaejax.presets.bodies import Bodies
from vaejax.presets.bottlenecks import LEARNED, build_quantizer, with_first_codes
from vaejax.presets.latent_settings import AnyBottleneck, Fidelity, MapNetwork, Opposed
from vaejax.presets.likelihood import likelihood_note
from vaejax.presets.quantized import map_sides
from vaejax.presets.signature import preset
from vaejax.training.gating import either, every, since, until
from vaejax.training.schedules import from_step

__all__ = ["autoencoder_kl", "vqgan"]

adversarial = objectives.adversarial
SHOWN = adversarial.reconstruction_alone
GREY = Data(binarize="none")


PATCHES = Critic(
    loss="hinge",
    critic_body="patch",
    critic_channels=16,
    critic_norm="batch",
    critic_learning_rate=1e-3,
    beta1=0.5,
    beta2=0.9,
)
"""The critic of the published recipe, narrower; it learns faster than the others."""
MAPS, FAITHFUL, OPPOSED = MapNetwork(), Fidelity(), Opposed()
NUMBERS, CODES = AnyBottleneck(), AnyBottleneck(bottleneck="vq")
SHORT = Training(epochs=40, batch_size=64, learning_rate=3e-4)
TINY: Mapping[str, Any] = {
    "width": 4,
    "multipliers": (1, 2),
    "critic_channels": 4,
    "critic_layers": 1,
    "critic_start": 1,
    "critic_warm_up": 0,
}


@preset(tiny={**TINY, "latent_channels": 2})
def autoencoder_kl(
    *,
    data: Data = GREY,
    network: MapNetwork = MAPS,
    latent: AnyBottleneck = NUMBERS,
    fidelity: Fidelity = FAITHFUL,
    critic: Critic = PATCHES,
    opposed: Opposed = OPPOSED,
    training: Training = SHORT,
) -> Experiment:
    """The autoencoder of latent diffusion, with a critic [Rombach et al. 2022].

    The default has one place of its map for 4 x 4 pixels, and is narrow enough for two
    cores. The published one for 8 x 8 pixels of 256 x 256: --width 128 --multipliers
    1 2 4 4 --blocks 2 --critic-channels 64 --critic-start 50001
    --critic-warm-up 0 --adversarial-weight 0.5 --image-size 256 --lpips FOLDER, and
    --learning-rate and --critic-learning-rate 4.5e-6 times the batch size, 12 a device.
    """
    return latent_game(data, network, latent, fidelity, critic, opposed, training)


@preset(tiny={**TINY, "multipliers": (1,), "codes": 16, "code_channels": 4})
def vqgan(
    *,
    data: Data = GREY,
    network: MapNetwork = MAPS,
    latent: AnyBottleneck = CODES,
    fidelity: Fidelity = FAITHFUL,
    critic: Critic = PATCHES,
    opposed: Opposed = OPPOSED,
    training: Training = SHORT,
) -> Experiment:
    """Maps of codes, with a critic and in features [Esser et al. 2021].

    Weights of codes are of mean squares beside the mean error of a pixel, as published.
    The default is narrow; the published one, with a code for 16 x 16 pixels: --width
    128 --multipliers 1 1 2 2 4 --blocks 2 --attention 16 --codes 1024 --code-channels
    256 --critic-channels 64 --critic-start 250001 --critic-warm-up 0
    --adversarial-weight 0.8 --image-size 256 --lpips FOLDER, and --learning-rate and
    --critic-learning-rate 4.5e-6 times the batch size, 12 a device.
    """
    return latent_game(data, network, latent, fidelity, critic, opposed, training)


def latent_game(
    data: Data,
    network: MapNetwork,
    latent: AnyBottleneck,
    fidelity: Fidelity,
    critic: Critic,
    opposed: Opposed,
    training: Training,
) -> Experiment:
    """A latent autoencoder by its settings, with or without a critic.

    Raises:
      InputError: the data are no whole images that these networks and this critic fit.
    """
    view = open_images(data, fidelity.reconstruction)
    sides = map_sides(view, 2 ** (len(network.multipliers) - 1))
    judge = None if opposed.absent else arena.critic_of(Network(), critic, view.dataset)
    model = latent_model(network, latent, view, sides, judge)
    spec, steps = view.dataset.spec, arena.total_steps(view, training)
    distance = None
    if fidelity.features:
        distance = OpenedLater(fidelity.perceptual, fidelity.lpips, spec)
    most = MOST if latent.bottleneck == "kl" else MOST * math.prod(spec.shape)
    objective = partial(
        objectives.latent_autoencoder,
        bottleneck=bottleneck_of(latent, math.prod(spec.shape), math.prod(sides)),
        perceived=distance and Perceived(distance, fidelity.perceptual_weight),
        loss=judge and adversarial.LOSSES[critic.loss],
        adaptive=opposed.adaptive_weight,
        most=most,
    )
    players = players_of(objective, critic, opposed, training, steps)
    made = arena.game(model, players, view, training, {}, "distortion")
    made = dataclasses.replace(
        made,
        metrics=with_metrics(made, latent, view, sides, judge is not None),
        frozen={fidelity.features: distance} if distance else {},
    )
    numbers = latent.bottleneck == "kl"
    return made if numbers else with_first_codes(made, latent, sides)


ERRORS: Mapping[str, Callable[[], Likelihood]] = {
    "l1": la.AbsoluteError,
    "l2": la.SquaredError,
}


def open_images(data: Data, reconstruction: Any) -> a.View:
    """The data, and the likelihood of its pixels."""
    if reconstruction in ERRORS:
        view = a.open_data(data, ERRORS[reconstruction]())
        words = f"--reconstruction {reconstruction}, summed over pixels in [-1, 1]"
        view = view._replace(notes=(likelihood_note(view.dataset.spec, words),))
    else:
        view = a.open_data(data, Network(likelihood=reconstruction))
    a.require_complete(view)
    return view


def map_channels(latent: AnyBottleneck) -> int:
    """Numbers at each place of the map."""
    if latent.bottleneck == "kl":
        return latent.latent_channels
    return build_quantizer(latent).channels


def latent_model(
    network: MapNetwork,
    latent: AnyBottleneck,
    view: a.View,
    sides: tuple[int, int],
    critic: Any,
) -> Any:
    """The model; without a critic it is a VAE, or one of codes."""
    sizes, channels = network.sizes(view.dataset.spec.shape[0]), map_channels(latent)
    gaussian = latent.bottleneck == "kl"
    outputs = 2 * channels if gaussian else channels
    body = Bodies(
        FeatureMapEncoder(outputs, sizes, projected=outputs),
        lambda shape: FeatureMapDecoder(shape[-1], sizes, projected=channels),
    )
    decoder = a.build_decoder(body, view)
    opposed = {} if critic is None else {"critic": critic}
    if gaussian:
        parts = {
            "encoder": la.GaussianMapEncoder(body.encoder),
            "decoder": decoder,
            "prior": StandardNormal((*sides, channels)),
        }
        return CriticVAE(**parts, **opposed) if opposed else VAE(**parts)
    parts = {
        "encoder": la.SignedEncoder(body.encoder),
        "quantizer": build_quantizer(latent),
        "decoder": decoder,
        "sides": sides,
    }
    kind = la.QuantizedCriticVAE if opposed else QuantizedVAE
    return kind(**parts, **opposed)


def bottleneck_of(
    latent: AnyBottleneck, entries: int, positions: int
) -> BottleneckTerms:
    """The terms of the latents of an image.

    Published weights are of means beside the mean error of an entry: of squares the
    mean over positions and channels, of entropies over positions. Here all are sums.

    Args:
      latent: the settings of the bottleneck.
      entries: numbers of an image.
      positions: places of its map of latents.
    """
    if latent.bottleneck == "kl":
        return kl_bottleneck(latent.kl_weight)
    learned = latent.bottleneck in LEARNED and latent.codebook == "gradient"
    of_squares = entries / (positions * map_channels(latent))
    of_entropies = entries / positions
    return code_bottleneck(
        None if latent.bottleneck == "fsq" else of_squares * latent.commitment,
        of_squares * latent.codebook_weight if learned else None,
        latent.entropy and of_entropies * latent.entropy,
    )


def players_of(
    objective: Any, critic: Critic, opposed: Opposed, training: Training, steps: int
) -> dict[str, Player]:
    """The autoencoder, and from the step on at which it starts the critic."""
    start = opposed.critic_start
    owns = ("encoder", "quantizer", "decoder", "prior")
    alone = arena.opponent(objective, owns, critic, training, steps)
    if opposed.absent:
        return {"autoencoder": alone._replace(gate=None)}
    if opposed.counts >= steps:
        raise InputError(
            f"the critic counts from step {opposed.counts:,} on, after the last of "
            f"{steps:,}: set an earlier --critic-start, a shorter --critic-warm-up, "
            "more --epochs, or --adversarial-weight 0"
        )
    moves = critic.critic_moves
    gate = either(until(start), every(moves)) if moves > 1 else None
    schedules = {"adversarial": from_step(opposed.adversarial_weight, opposed.counts)}
    judge = arena.critic_player(critic, training, steps, SHOWN)
    return {
        "autoencoder": alone._replace(gate=gate, schedules=schedules),
        "critic": judge._replace(gate=since(start) if start else None),
    }


def with_metrics(
    made: Experiment,
    latent: AnyBottleneck,
    view: a.View,
    sides: tuple[int, int],
    judged: bool,
) -> Callable[[int], Mapping[str, Metric]]:
    """The metrics of the latents and of the critic, with those of images."""
    log_bin = 0.0 if view.likelihood.discrete else view.preprocess.log_bin
    likelihood = partial(metrics.likelihood_metrics, log_bin=log_bin)
    if latent.bottleneck == "kl":
        shape = (*sides, latent.latent_channels)
        used = dict(metrics.representation_metrics(shape))
    else:
        quantizer = build_quantizer(latent)
        used = {
            "codes": metrics.code_usage(quantizer.size, quantizer.levels),
            "count": metrics.count(),
        }
    if judged:
        used["critic"] = metrics.critic_scores(SHOWN)
    return lambda samples: {**likelihood(samples), **used, **made.metrics(samples)}
