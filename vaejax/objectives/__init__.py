"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.elbo import capacity, elbo, reconstruction
from vaejax.objectives.importance import iwae

__all__ = [
    "adversarial",
    "capacity",
    "completion",
    "elbo",
    "iwae",
    "reconstruction",
    "vaegan",
]
