"""Second models, of the latents of a first one: a flow, and a VAE with its own latents.

Both are given standardized latents as `batch["x"]` `[batch, latents]`, and labels as
`batch["y"]` where the first model is conditioned on them. Their variables are kept as
arrays by path, `params/flow/layer_0/...`, beside `loc` and `scale` of each latent.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from flax.traverse_util import flatten_dict, unflatten_dict

from vaejax import parallel
from vaejax.distributions import Delta, Normal
from vaejax.distributions.flow import Flow
from vaejax.distributions.temperature import cooled
from vaejax.errors import InputError
from vaejax.models import VAE, Decoder, GaussianEncoder, Label, StandardNormal
from vaejax.models.base import Generator
from vaejax.models.flow_priors import CouplingPrior
from vaejax.models.likelihoods import Gaussian
from vaejax.nn.networks import MLP, FlatDecoder, FlatEncoder
from vaejax.types import Array, Batch, Distribution, Key

LAYERS, HIDDEN = 8, 128
"""Couplings of the flow, and the width of the two hidden layers in each."""
WIDTHS = (512, 512)
"""Dense layers of the second VAE; Dai & Wipf's have three of 1,024."""


class LabelledNormal(nn.Module):
    """A diagonal Gaussian for each label, joint over latents, learned from N(0, I)."""

    latents: int
    classes: int

    @nn.compact
    def __call__(self, batch: Batch) -> Any:
        shape = (self.classes, self.latents)
        means = self.param("means", nn.initializers.zeros, shape)
        log_scales = self.param("log_scales", nn.initializers.zeros, shape)
        y = batch["y"]
        each = Normal(means[y], jnp.exp(log_scales[y]))
        return dist.Independent(each, 1, validate_args=False)


class FlowDensity(Generator):
    """p(z), or p(z | y): a Gaussian, of each label one, through coupling layers."""

    flow: CouplingPrior
    base: LabelledNormal | None = None

    def prior(self, batch: Batch) -> Distribution:
        found: Any = self.flow(batch)
        return found if self.base is None else Flow(self.base(batch), found.maps)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        del batch
        return Delta(z)


def flow_model(latents: int, classes: int) -> FlowDensity:
    """The flow for that many latents, given one of that many labels.

    A flow whose base distribution knows the label is that of [Izmailov et al. 2020].

    Raises:
      InputError: a coupling needs two latents, one to keep and one to change.
    """
    if latents < 2:
        raise InputError("flow needs two latents or more: use gmm or two_stage")
    base = LabelledNormal(latents, classes) if classes else None
    return FlowDensity(CouplingPrior(latents, LAYERS, HIDDEN), base)


def two_stage_model(latents: int, classes: int) -> VAE:
    """The second VAE, with as many latents as the first, and one learned variance.

    [Dai & Wipf 2019, sec. 4]
    """
    condition = Label(classes) if classes else None
    network = FlatDecoder(MLP(WIDTHS), (latents,))
    return VAE(
        encoder=GaussianEncoder(FlatEncoder(MLP(WIDTHS)), latents, condition),
        decoder=Decoder(network, Gaussian(), condition),
        prior=StandardNormal(latents),
    )


def arrays_of(
    variables: Mapping[str, Any], loc: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """Variables by path, and the standardization of latents."""
    flat = flatten_dict(jax.device_get(dict(variables)), sep="/")
    named = {name: np.asarray(leaf) for name, leaf in flat.items()}
    return {**named, "loc": loc.astype(np.float32), "scale": scale.astype(np.float32)}


def draw_second(
    build: Callable[[int, int], Any],
    arrays: Mapping[str, np.ndarray],
    classes: int,
    key: Key,
    labels: np.ndarray,
    temperature: float | Array | None,
) -> Array:
    """Latents `[num, D]` of a fitted second model, in the first one's units.

    The noise of the second VAE's decoder is included: a temperature multiplies it too.
    """
    latents, noise = jax.random.split(key)
    loc, scale = jnp.asarray(arrays["loc"]), jnp.asarray(arrays["scale"])
    batch = {"x": jnp.zeros((len(labels), len(loc))), "y": jnp.asarray(labels)}
    own = {n: a for n, a in arrays.items() if "/" in n}
    generate = parallel.compile_verb(build(len(loc), classes), "generate")
    p = generate(unflatten_dict(own, sep="/"), batch, latents[None], temperature)
    return cooled(p, temperature).sample(noise)[0] * scale[None] + loc[None]
