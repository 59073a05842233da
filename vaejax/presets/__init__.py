"""Presets: one function for each published experiment, and generic ones.

A preset's signature is its configuration: the command line, `config.json` and Python
use the same names.
"""

from collections.abc import Callable, Mapping

from vaejax.experiment import Experiment
from vaejax.presets.generic import (
    annealed_vae,
    autoencoder,
    beta_vae,
    iwae,
    vae,
    vae_conv,
)
from vaejax.presets.published import pca, vae_flax_example, vae_mlp_2d

PRESETS: Mapping[str, Callable[..., Experiment]] = {
    make.__name__: make
    for make in (
        vae,
        beta_vae,
        annealed_vae,
        iwae,
        vae_conv,
        vae_mlp_2d,
        vae_flax_example,
        autoencoder,
        pca,
    )
}

__all__ = [
    "PRESETS",
    "annealed_vae",
    "autoencoder",
    "beta_vae",
    "iwae",
    "pca",
    "vae",
    "vae_conv",
    "vae_flax_example",
    "vae_mlp_2d",
]
