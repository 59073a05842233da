"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.blocks import block_elbo
from vaejax.objectives.elbo import capacity, elbo, reconstruction
from vaejax.objectives.importance import averaged_elbo, iwae, weighted

__all__ = [
    "adversarial",
    "averaged_elbo",
    "block_elbo",
    "capacity",
    "completion",
    "elbo",
    "iwae",
    "reconstruction",
    "vaegan",
    "weighted",
]
