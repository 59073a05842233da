"""The latents of a model: how many, their prior and their posterior."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import get_args

from vaejax.configs.checks import at_least
from vaejax.errors import InputError, require
from vaejax.models.posteriors import PosteriorName
from vaejax.models.priors import PriorName


@dataclasses.dataclass(frozen=True)
class LatentSize:
    """The latents of a model whose prior is a standard normal."""

    latents: int = 20
    """Number of latents."""

    def __post_init__(self) -> None:
        at_least(1, self, "latents")


@dataclasses.dataclass(frozen=True)
class Latents(LatentSize):
    """The latents of a model with an ELBO: their prior and posterior."""

    prior: PriorName = "standard"
    """p(z): standard normal; a learned mixture of Gaussians; vamp, the mixture of the
    posteriors of learned pseudo-inputs; realnvp or maf, flows."""
    posterior: PosteriorName = "diagonal"
    """q(z | x): a Gaussian with diagonal, low_rank (plus diagonal) or full covariance;
    a flow of planar, householder, sylvester or iaf maps; or categorical variables."""
    components: int = 0
    """Components of the mixture, or pseudo-inputs of vamp; 0: ten."""
    flow_layers: int = 0
    """Maps of each flow, of prior and posterior; 0: four."""
    flow_hidden: int = 0
    """Width of the hidden layers within realnvp, maf and iaf; 0: 128."""
    rank: int = 0
    """Columns of low_rank (0: two), or of Q in sylvester (0: at most 16)."""
    category_values: int = 0
    """Values of each of the categorical latents; 0: ten."""
    temperature: float = 1.0
    """Temperature of the relaxation that gives categorical draws a gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = ("components", "flow_layers", "flow_hidden", "rank")
        at_least(0, self, *numbers, "category_values")
        require(self.temperature > 0, "temperature", self.temperature, "above 0")
        for name, users in OWNERS_OF_LATENTS.items():
            given = vars(self)[name] != getattr(type(self), name)
            if given and not {self.prior, self.posterior} & set(users):
                flag, known = name.replace("_", "-"), or_words(users)
                raise InputError(f"--{flag} is only for {known}: choose one")

    @property
    def count(self) -> int:
        """Components of the prior, which is a mixture."""
        return self.components or 10

    @property
    def maps(self) -> int:
        """Maps of a flow."""
        return self.flow_layers or 4

    @property
    def width(self) -> int:
        """Width of the hidden layers within a flow's maps."""
        return self.flow_hidden or 128

    @property
    def values(self) -> int:
        """Values of a categorical latent."""
        return self.category_values or 10

    @property
    def size(self) -> int:
        """Numbers that the latents of an example are: one-hot where categorical."""
        discrete = self.posterior == "categorical"
        return self.latents * self.values if discrete else self.latents

    def of_posterior(self, latents: int) -> "Latents":
        """The same posterior of other latents, whose prior is not asked for."""
        return self._only("prior", self.posterior, latents)

    def of_prior(self) -> "Latents":
        """The same prior, of latents with a diagonal posterior."""
        return self._only("posterior", self.prior, self.latents)

    def _only(self, other: str, name: str, latents: int) -> "Latents":
        """Prior or posterior alone, with those settings that it reads."""
        unread = {
            setting: getattr(type(self), setting)
            for setting, users in OWNERS_OF_LATENTS.items()
            if name not in users
        }
        rest = {**unread, "latents": latents, other: getattr(type(self), other)}
        return dataclasses.replace(self, **rest)


OWNERS_OF_LATENTS: Mapping[str, tuple[str, ...]] = {
    "components": ("mixture", "vamp"),
    "flow_layers": ("realnvp", "maf", "planar", "householder", "sylvester", "iaf"),
    "flow_hidden": ("realnvp", "maf", "iaf"),
    "rank": ("low_rank", "sylvester"),
    "category_values": ("categorical",),
    "temperature": ("categorical",),
}
"""Settings of latents, and the priors and posteriors that read them."""


def or_words(names: Sequence[str]) -> str:
    """The flags that choose one of these priors or posteriors, in words."""
    priors = [name for name in names if name in get_args(PriorName)]
    posteriors = [name for name in names if name in get_args(PosteriorName)]
    both = [("prior", priors), ("posterior", posteriors)]
    return " or ".join(f"--{flag} {' or '.join(of)}" for flag, of in both if of)
