"""Presets: one function for each published experiment, and generic ones.

A preset's signature is its configuration: the command line, `config.json` and Python
use the same names. A preset is a function in the module of its family, under `@preset`
and in `__all__` there, and the BibTeX entries of what it cites; all else follows.
"""

from collections.abc import Callable, Mapping
from types import ModuleType

from vaejax.experiment import Experiment
from vaejax.presets import (
    adversarial,
    burda,
    conditional,
    conv_ladder,
    deep,
    disentangling,
    generic,
    geometry,
    hierarchies,
    larsen,
    latent_autoencoders,
    matching,
    missing,
    published,
    quantized,
    regularized,
    second_stages,
    semisupervised,
    sylvester,
    tomczak,
    vae_gan,
)
from vaejax.presets.adversarial import *
from vaejax.presets.burda import *
from vaejax.presets.conditional import *
from vaejax.presets.conv_ladder import *
from vaejax.presets.deep import *
from vaejax.presets.disentangling import *
from vaejax.presets.generic import *
from vaejax.presets.geometry import *
from vaejax.presets.hierarchies import *
from vaejax.presets.larsen import *
from vaejax.presets.latent_autoencoders import *
from vaejax.presets.matching import *
from vaejax.presets.missing import *
from vaejax.presets.published import *
from vaejax.presets.quantized import *
from vaejax.presets.regularized import *
from vaejax.presets.second_stages import *
from vaejax.presets.semisupervised import *
from vaejax.presets.signature import presets_of
from vaejax.presets.sylvester import *
from vaejax.presets.tomczak import *
from vaejax.presets.vae_gan import *

FAMILIES: Mapping[str, tuple[ModuleType, ...]] = {
    "autoencoders": (generic,),
    "disentangling": (disentangling,),
    "matched to the prior": (matching,),
    "other penalties": (regularized,),
    "geometry of latents": (geometry,),
    "published settings": (published, burda, tomczak, sylvester),
    "hierarchies": (hierarchies, conv_ladder, deep),
    "conditional": (conditional,),
    "semi-supervised": (semisupervised,),
    "adversarial": (adversarial,),
    "VAE-GAN": (vae_gan,),
    "VAE-GAN as published": (larsen,),
    "missing data": (missing,),
    "codes": (quantized,),
    "latent autoencoders": (latent_autoencoders,),
    "second stages": (second_stages,),
}
"""The modules of presets, by what their tables are headed with."""

PRESETS: Mapping[str, Callable[..., Experiment]] = {
    name: make
    for modules in FAMILIES.values()
    for module in modules
    for name, make in presets_of(module).items()
}
"""Every preset by its name, in the order of the families."""

__all__ = ["FAMILIES", "PRESETS"]
__all__ += generic.__all__
__all__ += disentangling.__all__
__all__ += matching.__all__
__all__ += regularized.__all__
__all__ += geometry.__all__
__all__ += deep.__all__
__all__ += published.__all__
__all__ += burda.__all__
__all__ += tomczak.__all__
__all__ += sylvester.__all__
__all__ += hierarchies.__all__
__all__ += conv_ladder.__all__
__all__ += conditional.__all__
__all__ += semisupervised.__all__
__all__ += adversarial.__all__
__all__ += vae_gan.__all__
__all__ += larsen.__all__
__all__ += missing.__all__
__all__ += quantized.__all__
__all__ += latent_autoencoders.__all__
__all__ += second_stages.__all__
