"""Optimizers by the settings of training."""

import dataclasses
from collections.abc import Callable, Mapping

import optax

from vaejax.configs import Training
from vaejax.experiment import Experiment
from vaejax.presets.choice import pick
from vaejax.training.optimizers import early_epsilon_adam, normalized_gradients
from vaejax.training.schedules import staged


def scheduled_rate(
    training: Training, steps: int, digits: int | None = None
) -> optax.ScalarOrSchedule:
    """The learning rate over the `steps` of all epochs; `digits` round stages of it."""
    rate, each = training.learning_rate, steps // training.epochs
    rates: Mapping[str, Callable[[], optax.ScalarOrSchedule]] = {
        "constant": lambda: rate,
        "cosine": lambda: optax.cosine_decay_schedule(rate, steps),
        "stages": lambda: staged(rate, each, digits),
    }
    return pick("decay", training.decay, rates)()


def clipped(
    training: Training, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The optimizer of a gradient that is clipped first, where the settings say so."""
    clip = optax.clip_by_global_norm(training.clip)
    return optax.chain(clip, optimizer) if training.clip else optimizer


def adam(
    training: Training,
    steps: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam as the training settings say: clipped first, its rate scheduled."""
    rate = scheduled_rate(training, steps)
    return clipped(training, optax.adam(rate, b1=beta1, b2=beta2, eps=epsilon))


def adam_norm_grad(training: Training, steps: int) -> optax.GradientTransformation:
    """Adam of gradients that are divided by their norms, tensor by tensor.

    The AdamNormGrad of the code of Tomczak & Welling 2018.
    """
    rate = optax.scale_by_learning_rate(scheduled_rate(training, steps))
    normalized = optax.chain(normalized_gradients(), early_epsilon_adam(), rate)
    return clipped(training, normalized)


def optimized_by(
    experiment: Experiment, optimizer: optax.GradientTransformation
) -> Experiment:
    """The experiment with another optimizer of all its players."""
    players = {
        name: player._replace(optimizer=optimizer)
        for name, player in experiment.players.items()
    }
    return dataclasses.replace(experiment, players=players)
