"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.elbo import averaged_elbo, capacity, elbo, reconstruction
from vaejax.objectives.importance import iwae

__all__ = [
    "adversarial",
    "averaged_elbo",
    "capacity",
    "completion",
    "elbo",
    "iwae",
    "reconstruction",
    "vaegan",
]
