"""Builds adversarial experiments from settings."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn

from vaejax import objectives
from vaejax.configs import Critic, Data, Network, Training
from vaejax.data import Dataset
from vaejax.data.kinds import require_images
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric, Player, epoch_steps
from vaejax.metrics import quality_metrics
from vaejax.models import CriticNetwork, Label
from vaejax.models import likelihoods as li
from vaejax.nn import networks as net
from vaejax.nn.patches import LEAKY, PatchBody, least_patch_side, patch_widths
from vaejax.presets import assemble as a
from vaejax.presets.bodies import build_bodies
from vaejax.presets.choice import pick
from vaejax.training.gating import every
from vaejax.types import Objective

adversarial = objectives.adversarial


def open_generator_data(data: Data, likelihood: li.Likelihood | None = None) -> a.View:
    """The data of a model that generates x itself, without a decoder's density.

    InputError where the data has holes: a critic would tell examples by them.
    """
    view = a.open_data(data, likelihood or li.Implicit())
    a.require_complete(view)
    return view


def critic_body(network: Network, critic: Critic, data: Dataset) -> nn.Module:
    """The critic's body: of patches, or as the encoder's, with leaky units and its own
    norm.
    """
    if critic.critic_body == "patch":
        return patch_body(critic, data)
    norm, hidden = critic.critic_norm, critic.critic_hidden or network.hidden
    convolutions = partial(net.ConvEncoder, network.channels, hidden[-1])
    blocks, remat = network.blocks, network.remat
    bodies: Mapping[str, Callable[[], nn.Module]] = {
        "mlp": lambda: net.FlatEncoder(net.MLP(hidden, LEAKY, norm=norm)),
        "linear": lambda: net.FlatEncoder(net.MLP(())),
        "conv": lambda: convolutions(0, norm, LEAKY),
        "residual": lambda: convolutions(blocks, norm, LEAKY, remat),
    }
    build_bodies(network, data)  # refuses what does not fit the data
    return pick("body", network.body, bodies)()


def patch_body(critic: Critic, data: Dataset) -> PatchBody:
    """The body of PatchGAN; InputError where images are too small for it."""
    layers, norm = critic.critic_layers, critic.critic_norm
    require_images(data.spec, "--critic-body patch", ": use --critic-body encoder")
    least, side = least_patch_side(layers), min(data.spec.shape[:2])
    if side < least:
        raise InputError(
            f"--critic-body patch with {layers} layers needs images of at least "
            f"{least} pixels: {data.spec.name} has {side}; use fewer --critic-layers"
        )
    return PatchBody(patch_widths(critic.critic_channels, layers), norm)


def require_whole_body(critic: Critic, subject: str) -> None:
    """InputError where a critic of something else than x is to score patches."""
    if critic.critic_body == "patch":
        raise InputError(
            f"--critic-body patch is of critics of images: this one sees {subject}"
        )


def layers_of_critic(network: Network, critic: Critic) -> int:
    """The number of layers whose features a critic of x has, besides x."""
    if critic.critic_body == "patch":
        return critic.critic_layers + 1
    if network.body in ("conv", "residual"):
        return len(network.channels) + 1
    dense = critic.critic_hidden or network.hidden
    return 0 if network.body == "linear" else len(dense)


def critic_of(
    network: Network,
    critic: Critic,
    data: Dataset,
    condition: Label | None = None,
    projection: bool = False,
) -> CriticNetwork:
    """A critic of x."""
    body, patches = critic_body(network, critic, data), critic.critic_body == "patch"
    return CriticNetwork(body, condition, projection, critic.critic_norm, patches)


def critic_player(
    critic: Critic, training: Training, steps: int, subjects: Callable
) -> Player:
    """The player that owns the critic."""
    rate = critic.critic_learning_rate or training.learning_rate
    own = dataclasses.replace(training, learning_rate=rate)
    objective = partial(
        adversarial.critic,
        loss=adversarial.LOSSES[critic.loss],
        subjects=subjects,
        gradient_penalty=critic.gradient_penalty,
        r1=critic.r1,
    )
    optimizer = a.adam(own, steps, critic.beta1, critic.beta2)
    return Player(objective, optimizer, ("critic",))


def opponent(
    objective: Objective,
    owns: tuple[str, ...],
    critic: Critic,
    training: Training,
    steps: int,
) -> Player:
    """A player who moves once for `critic_moves` moves of the critic."""
    gate = every(critic.critic_moves) if critic.critic_moves > 1 else None
    optimizer = a.adam(training, steps, critic.beta1, critic.beta2)
    return Player(objective, optimizer, owns, gate=gate)


def total_steps(view: a.View, training: Training) -> int:
    """Steps of the whole training."""
    return epoch_steps(view.dataset, training) * training.epochs


def game(
    model: nn.Module,
    players: Mapping[str, Player],
    view: a.View,
    training: Training,
    metrics: Mapping[str, Metric],
    selection: str,
) -> Experiment:
    """An experiment whose best state has the least `selection`."""
    quality = quality_metrics(model, view.dataset.spec, view.preprocess.values)
    return Experiment(
        model=model,
        players=players,
        dataset=view.dataset,
        preprocess=view.preprocess,
        metrics=lambda samples: {**metrics, **(quality if samples else {})},
        selection=lambda values: values[selection],
        training=training,
        notes=view.notes,
        likelihood=view.chosen,
    )
