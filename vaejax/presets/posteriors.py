"""Posteriors by name: a new one is a head in `models.posteriors` and an entry here."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import flax.linen as nn

from vaejax.configs import Latents
from vaejax.errors import InputError, require
from vaejax.models import Encoder, GaussianEncoder
from vaejax.models import posteriors as po
from vaejax.presets.choice import pick

Head = Callable[[Latents, nn.Module | None], nn.Module]
"""The head of a posterior; `base` gives its Gaussian, where a preset has one."""

Base = TypeVar("Base", bound=nn.Module | None)

GAUSSIAN = ("diagonal", "low_rank", "full")
"""Posteriors whose mixture is a density with a formula: those that vamp mixes."""


def flow(maps: Callable[[Latents], nn.Module]) -> Head:
    """The head of a flow."""
    return lambda latent, base: po.FlowHead(latent.latents, maps(latent), base)


def orthonormal(latent: Latents) -> nn.Module:
    """Sylvester maps, of as many columns as the latents allow."""
    rank = latent.rank or min(latent.latents, 16)
    require(rank <= latent.latents, "rank", rank, f"at most {latent.latents} latents")
    return po.SylvesterMaps(latent.latents, latent.maps, rank)


def categorical_head(latent: Latents, base: nn.Module | None) -> nn.Module:
    """Categorical variables, which no Gaussian underlies."""
    del base
    return po.CategoricalHead(latent.latents, latent.values, latent.temperature)


POSTERIORS: Mapping[str, Head | None] = {
    "diagonal": None,
    "low_rank": lambda latent, base: po.LowRankHead(
        latent.latents, latent.rank or min(latent.latents, 2), base
    ),
    "full": lambda latent, base: po.FullHead(latent.latents, base),
    "planar": flow(lambda latent: po.PlanarMaps(latent.latents, latent.maps)),
    "householder": flow(lambda latent: po.HouseholderMaps(latent.latents, latent.maps)),
    "sylvester": flow(orthonormal),
    "iaf": flow(
        lambda latent: po.InverseAutoregressiveMaps(
            latent.latents, latent.maps, (latent.width, latent.width)
        )
    ),
    "categorical": categorical_head,
}


def build_encoder(
    body: nn.Module,
    latent: Latents,
    condition: nn.Module | None = None,
    reader: nn.Module | None = None,
    base: nn.Module | None = None,
) -> nn.Module:
    """q(z | x) by its name in the settings.

    Args:
      body: makes features of what the encoder sees.
      latent: the number of latents and the posterior.
      condition: of q(z | x, c).
      reader: turns a batch with holes into what the body sees.
      base: a head that gives a diagonal Gaussian, where a preset has its own.

    Raises:
      InputError: prior and posterior do not fit.
    """
    head = build_head(latent, base)
    if head is None:
        return GaussianEncoder(body, latent.latents, condition, reader)
    return Encoder(body, head, condition, reader)


def build_head(latent: Latents, base: Base) -> nn.Module | Base:
    """The head by the settings' name, on `base`, which alone is the diagonal one.

    Raises:
      InputError: prior and posterior do not fit.
    """
    check_pair(latent)
    make = pick("posterior", latent.posterior, POSTERIORS)
    return make(latent, base) if make else base


def check_pair(latent: Latents) -> None:
    """InputError where the prior is none for latents of the posterior."""
    if latent.posterior == "categorical" and latent.prior != "standard":
        raise InputError(
            f"--prior {latent.prior} is a density of real numbers, and --posterior "
            "categorical has none: choose --prior standard, which is uniform"
        )
    if latent.prior == "vamp" and latent.posterior not in GAUSSIAN:
        raise InputError(
            f"--prior vamp mixes the encoder's densities, of which {latent.posterior} "
            f"has no formula: choose --posterior {', '.join(GAUSSIAN[:-1])} or "
            f"{GAUSSIAN[-1]}, or another --prior"
        )
