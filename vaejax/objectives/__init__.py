"""Objectives: what a player minimizes, in nats per example."""

from vaejax.objectives import adversarial, completion, vaegan
from vaejax.objectives.balanced import balanced_elbo
from vaejax.objectives.blocks import block_capacity, block_elbo
from vaejax.objectives.covariance import disentangled_prior
from vaejax.objectives.elbo import capacity, elbo, reconstruction
from vaejax.objectives.flow_matching import flow_matching
from vaejax.objectives.importance import averaged_elbo, iwae, weighted
from vaejax.objectives.latent_autoencoder import latent_autoencoder
from vaejax.objectives.mmd import info, wasserstein
from vaejax.objectives.quantized import quantization
from vaejax.objectives.regularized import regularized
from vaejax.objectives.semisupervised import semi_supervised
from vaejax.objectives.similarity import expected_dissimilarity
from vaejax.objectives.total_correlation import (
    decomposed_elbo,
    factorized,
    permuted_latents,
)

__all__ = [
    "adversarial",
    "averaged_elbo",
    "balanced_elbo",
    "block_capacity",
    "block_elbo",
    "capacity",
    "completion",
    "decomposed_elbo",
    "disentangled_prior",
    "elbo",
    "expected_dissimilarity",
    "factorized",
    "flow_matching",
    "info",
    "iwae",
    "latent_autoencoder",
    "permuted_latents",
    "quantization",
    "reconstruction",
    "regularized",
    "semi_supervised",
    "vaegan",
    "wasserstein",
    "weighted",
]
