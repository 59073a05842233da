"""Priors by name: a new one is a module in `models.priors` and an entry here."""

from collections.abc import Callable, Mapping

import flax.linen as nn

from vaejax.configs import Latents
from vaejax.data.preprocess import Preprocess
from vaejax.data.spec import Spec
from vaejax.distributions.columns import mixed
from vaejax.errors import InputError
from vaejax.models import MixturePrior, StandardNormal, VampPrior, conditional
from vaejax.models.flow_priors import AutoregressivePrior, CouplingPrior
from vaejax.models.priors import UniformCategories
from vaejax.presets.choice import pick

UNIT = ("binary", "grey", "dequantized")
"""Kinds of values that are in [0, 1]."""
Build = Callable[[Latents, nn.Module, Spec, Preprocess], nn.Module]


def standard_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """N(0, I); of categorical latents the uniform distribution."""
    if latent.posterior == "categorical":
        return UniformCategories(latent.latents, latent.values)
    return StandardNormal(latent.latents)


def mixture_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """A learned mixture of Gaussians."""
    return MixturePrior(latent.latents, latent.count)


def vamp_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """The mixture of the encoder's posteriors of learned pseudo-inputs."""
    if mixed(spec.columns):
        raise InputError(
            f"--prior vamp learns inputs, which the categories and counts of "
            f"{spec.name} cannot be: choose --prior mixture"
        )
    classes = spec.classes if conditional(encoder) else 0
    unit = preprocess.values in UNIT
    return VampPrior(encoder, latent.count, unit, classes)


def coupling_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """RealNVP."""
    return CouplingPrior(latent.latents, latent.maps, latent.width)


def autoregressive_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """A masked autoregressive flow."""
    return AutoregressivePrior(latent.latents, latent.maps, latent.width)


PRIORS: Mapping[str, Build] = {
    "standard": standard_prior,
    "mixture": mixture_prior,
    "vamp": vamp_prior,
    "realnvp": coupling_prior,
    "maf": autoregressive_prior,
}


def build_prior(
    latent: Latents, encoder: nn.Module, spec: Spec, preprocess: Preprocess
) -> nn.Module:
    """p(z) by its name in the settings.

    Args:
      latent: the number of latents and the prior.
      encoder: the posterior, which vamp is made of.
      spec: of the data.
      preprocess: says which values the model sees.
    """
    return pick("prior", latent.prior, PRIORS)(latent, encoder, spec, preprocess)
