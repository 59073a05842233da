"""Second models, of the latents of a first one: a flow, and a VAE with its own latents.

Both are given standardized latents as `batch["x"]` `[batch, latents]`, and labels as
`batch["y"]` where the first model is conditioned on them. Their variables are kept as
arrays by path, `params/flow/layer_0/...`, beside `loc` and `scale` of each latent.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vaejax import parallel
from vaejax.distributions import Delta
from vaejax.models import VAE, Decoder, GaussianEncoder, Label, StandardNormal
from vaejax.models.base import Generator
from vaejax.models.conditions import condition_of
from vaejax.models.likelihoods import Gaussian
from vaejax.nn.layers import append_condition
from vaejax.nn.networks import MLP, FlatDecoder, FlatEncoder
from vaejax.types import Array, Batch, Distribution, Key

LAYERS = 8
HIDDEN = (128,)
WIDTHS = (512, 512)
"""Dense layers of the second VAE; Dai & Wipf's have three of 1,024."""


class Coupling(nn.Module):
    """An affine coupling layer [Dinh et al. 2017, eq. 4-8].

    Latents whose place has the parity `odd` stay, and give scale and shift of the
    others; log scales are within (-2, 2), and 0 at the start.
    """

    hidden: tuple[int, ...]
    odd: bool

    @nn.compact
    def shift_and_scale(self, z: Array, c: Array | None) -> tuple[Array, Array]:
        kept = jnp.arange(z.shape[-1]) % 2 == int(self.odd)
        h = MLP(self.hidden)(append_condition(jnp.where(kept, z, 0), c))
        out = nn.Dense(2 * z.shape[-1], kernel_init=nn.initializers.zeros)(h)
        shift, raw = jnp.split(out, 2, axis=-1)
        log_scale = 2 * jnp.tanh(raw / 2)
        return jnp.where(kept, 0, shift), jnp.where(kept, 0, log_scale)


class CouplingFlow(nn.Module):
    """Coupling layers that turn latents into noise, and back."""

    layers: int = LAYERS
    hidden: tuple[int, ...] = HIDDEN

    def setup(self) -> None:
        self.layer = [Coupling(self.hidden, bool(n % 2)) for n in range(self.layers)]

    def __call__(self, z: Array, c: Array | None) -> tuple[Array, Array]:
        """Noise u of latents z, both `[..., latents]`, and log |det du/dz| `[...]`."""
        log_det = jnp.zeros(z.shape[:-1])
        for layer in self.layer:
            shift, log_scale = layer.shift_and_scale(z, c)
            z = (z - shift) * jnp.exp(-log_scale)
            log_det -= log_scale.sum(-1)
        return z, log_det

    def inverse(self, u: Array, c: Array | None) -> Array:
        """Latents of noise."""
        for layer in reversed(self.layer):
            shift, log_scale = layer.shift_and_scale(u, c)
            u = u * jnp.exp(log_scale) + shift
        return u


class FlowDensity(Generator):
    """p(z) or p(z | y): a standard normal through coupling layers."""

    flow: CouplingFlow
    prior: nn.Module
    condition: Label | None = None

    def decode(self, z: Array, batch: Batch) -> Distribution:
        c = condition_of(self.condition, batch)
        return Delta(self.flow.inverse(z, alike(c, z)))

    def log_density(self, batch: Batch) -> Array:
        """log p of `batch["x"]`, nats `[batch]`."""
        c = condition_of(self.condition, batch)
        u, log_det = self.flow(batch["x"], c)
        return self.prior(batch).log_prob(u).sum(-1) + log_det


def alike(c: Array | None, z: Array) -> Array | None:
    """The condition with the sample axis of z."""
    return None if c is None else jnp.broadcast_to(c, (*z.shape[:-1], c.shape[-1]))


def flow_model(latents: int, classes: int) -> FlowDensity:
    """The flow for that many latents, given one of that many labels."""
    condition = Label(classes) if classes else None
    return FlowDensity(CouplingFlow(), StandardNormal(latents), condition)


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
    return {**named, "loc": np.float32(loc), "scale": np.float32(scale)}


def draw_flow(
    arrays: Mapping[str, np.ndarray], classes: int, key: Key, labels: np.ndarray
) -> Array:
    """Latents `[num, D]` of a fitted flow."""
    return drawn(flow_model(len(arrays["loc"]), classes), arrays, key, labels)


def draw_two_stage(
    arrays: Mapping[str, np.ndarray], classes: int, key: Key, labels: np.ndarray
) -> Array:
    """Latents `[num, D]` of a fitted second VAE, the noise of its decoder included."""
    return drawn(two_stage_model(len(arrays["loc"]), classes), arrays, key, labels)


def drawn(
    model: Any, arrays: Mapping[str, np.ndarray], key: Key, labels: np.ndarray
) -> Array:
    """Draws of a second model, in the first one's units."""
    latents, noise = jax.random.split(key)
    loc, scale = jnp.asarray(arrays["loc"]), jnp.asarray(arrays["scale"])
    batch = {"x": jnp.zeros((len(labels), len(loc))), "y": jnp.asarray(labels)}
    own = {n: a for n, a in arrays.items() if "/" in n}
    generate = parallel.compile_verb(model, "generate")
    z = generate(unflatten_dict(own, sep="/"), batch, latents[None])
    return z.sample(noise)[0] * scale[None] + loc[None]
