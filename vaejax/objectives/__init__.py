"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.elbo import averaged_elbo, capacity, elbo, reconstruction
from vaejax.objectives.importance import elbo_without_score, iwae, weighted

__all__ = [
    "adversarial",
    "averaged_elbo",
    "capacity",
    "completion",
    "elbo",
    "elbo_without_score",
    "iwae",
    "reconstruction",
    "vaegan",
    "weighted",
]
