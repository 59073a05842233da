"""Models: Linen modules with the verbs posterior, prior and likelihood, and critics."""

from vaejax.models.adversarial import CVAEGAN, GAN, CriticVAE, Judge
from vaejax.models.completion import Baseline, Completion, GaussianNetwork
from vaejax.models.conditions import Label, conditional
from vaejax.models.critic import Classifier, Critic, Critique, JointCritic
from vaejax.models.vae import (
    VAE,
    Decoder,
    DeterministicEncoder,
    GaussianEncoder,
    StandardNormal,
)

__all__ = [
    "CVAEGAN",
    "GAN",
    "VAE",
    "Baseline",
    "Classifier",
    "Completion",
    "Critic",
    "CriticVAE",
    "Critique",
    "Decoder",
    "DeterministicEncoder",
    "GaussianEncoder",
    "GaussianNetwork",
    "JointCritic",
    "Judge",
    "Label",
    "StandardNormal",
    "conditional",
]
