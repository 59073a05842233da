"""Presets: one function for each published experiment, and generic ones.

A preset's signature is its configuration: the command line, `config.json` and Python
use the same names.
"""

from collections.abc import Callable, Mapping

from vaejax.experiment import Experiment
from vaejax.presets.adversarial import aae, ali, gan, gan_conv, wgan_gp
from vaejax.presets.conditional import classifier, cvae, cvae_sohn
from vaejax.presets.generic import (
    annealed_vae,
    autoencoder,
    beta_vae,
    iwae,
    vae,
    vae_conv,
    vae_residual_large,
    vae_two_layer,
)
from vaejax.presets.larsen import vaegan_authors_code, vaegan_paper
from vaejax.presets.missing import miwae, not_miwae, partial_vae, vae_completion
from vaejax.presets.published import pca, vae_flax_example, vae_mlp_2d
from vaejax.presets.vaegan import cvaegan, vaegan

PRESETS: Mapping[str, Callable[..., Experiment]] = {
    make.__name__: make
    for make in (
        vae,
        beta_vae,
        annealed_vae,
        iwae,
        vae_two_layer,
        vae_conv,
        vae_residual_large,
        vae_mlp_2d,
        vae_flax_example,
        autoencoder,
        pca,
        cvae,
        cvae_sohn,
        gan,
        gan_conv,
        wgan_gp,
        vaegan,
        vaegan_paper,
        vaegan_authors_code,
        cvaegan,
        aae,
        ali,
        classifier,
        miwae,
        not_miwae,
        partial_vae,
        vae_completion,
    )
}

__all__ = [
    "PRESETS",
    "aae",
    "ali",
    "annealed_vae",
    "autoencoder",
    "beta_vae",
    "classifier",
    "cvae",
    "cvae_sohn",
    "cvaegan",
    "gan",
    "gan_conv",
    "iwae",
    "miwae",
    "not_miwae",
    "partial_vae",
    "pca",
    "vae",
    "vae_completion",
    "vae_conv",
    "vae_flax_example",
    "vae_mlp_2d",
    "vae_residual_large",
    "vae_two_layer",
    "vaegan",
    "vaegan_authors_code",
    "vaegan_paper",
    "wgan_gp",
]
