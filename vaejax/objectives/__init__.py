"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.elbo import capacity, elbo, reconstruction
from vaejax.objectives.importance import elbo_without_score, iwae, weighted

__all__ = [
    "adversarial",
    "capacity",
    "completion",
    "elbo",
    "elbo_without_score",
    "iwae",
    "reconstruction",
    "vaegan",
    "weighted",
]
