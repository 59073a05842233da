"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives.elbo import capacity, elbo, reconstruction
from vaejax.objectives.importance import iwae

__all__ = ["capacity", "elbo", "iwae", "reconstruction"]
