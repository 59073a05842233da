"""Models: Linen modules with the verbs posterior, prior and likelihood."""

from vaejax.models.vae import (
    VAE,
    Decoder,
    DeterministicEncoder,
    GaussianEncoder,
    StandardNormal,
)

__all__ = [
    "VAE",
    "Decoder",
    "DeterministicEncoder",
    "GaussianEncoder",
    "StandardNormal",
]
