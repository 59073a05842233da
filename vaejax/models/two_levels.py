"""A quantized autoencoder with two maps of codes, a coarse and a fine one."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.tree_util import Partial

from vaejax.distributions.codes import (
    CodeBlocks,
    Codes,
    RowOfCodes,
    UniformCodes,
)
from vaejax.inference.latents import Block, Source, latent_term, split_blocks
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.nn.strided import StridedDecoder
from vaejax.types import Array, Batch, Distribution, Size

TOP, BOTTOM = "z2", "z1"
"""The coarse block, and that next to the data."""


class TopConditioned(nn.Module):
    """`channels` numbers at each position of the fine map, of features of x there and
    of the coarse map as `body` decodes it.
    """

    body: StridedDecoder
    channels: int

    @nn.compact
    def __call__(self, features: Array, top: Array) -> Array:
        return nn.Dense(self.channels)(jnp.concatenate([features, self.body(top)], -1))


class TwoLevelVAE(LatentModel):
    """p(x | z1, z2) of a fine and a coarse map of codes [Razavi et al. 2019, alg. 1].

    The coarse map z2 has half the sides of the fine one; its codes are those nearest to
    features of the fine map's features, and the fine map's codes depend on it. Both are
    certain given x, and all codes are alike a priori, so that KL(q || p) is log size
    nats for each position and level of both, whatever x is.

    `decode` takes both maps as one vector, the coarse one first. The codes of an
    example are a row in the same order, `[1, places, 1]`: what a causal model of them
    draws first is the coarse map.
    """

    encoder: nn.Module
    """From x to features of the fine map."""
    top_encoder: nn.Module
    """From these to the coarse map, before it is quantized."""
    top_quantizer: Any
    mixer: TopConditioned
    quantizer: Any
    doubler: nn.Module
    """From the coarse map to one of the fine map's sides."""
    decoder: nn.Module
    """From the latter and the fine map, channels side by side, to p(x | z)."""
    sides: tuple[int, int]
    """Height and width of the fine map."""

    @property
    def top_sides(self) -> tuple[int, int]:
        """Height and width of the coarse map."""
        height, width = self.sides
        return height // 2, width // 2

    def blocks(self, batch: Batch) -> tuple[Any, Any]:
        """q of the coarse and of the fine map, each a `Quantized`."""
        features = self.encoder(batch["x"])
        top = self.top_quantizer(self.top_encoder({"x": features}))
        return top, self.quantizer(self.mixer(features, top.values))

    def priors(self, examples: Size) -> tuple[Any, Any]:
        """p of the coarse and of the fine map, each `UniformCodes`."""
        top = self.top_quantizer.prior(examples, *self.top_sides)
        return top, self.quantizer.prior(examples, *self.sides)

    def terms(self, batch: Batch, source: Source) -> Inference:
        q2, q1 = self.blocks(batch)
        p2, p1 = self.priors(batch["x"].shape[0])
        z2, log_q2 = source(Block(TOP, q2, p2))
        z1, log_q1 = source(Block(BOTTOM, q1, p1, 1))
        px = self._read(z2, z1, batch)
        latents = {
            BOTTOM: latent_term(q1, p1, z1, log_q1),
            TOP: latent_term(q2, p2, z2, log_q2),
        }
        return Inference(log_observed(px, batch), latents, px)

    def encode(self, batch: Batch) -> Distribution:
        return CodeBlocks(self.blocks(batch))

    def prior(self, batch: Batch) -> UniformCodes:
        """All rows of codes alike."""
        parts = self.priors(batch["x"].shape[0])
        row = self._row(parts)
        look_up = Partial(row, *(each.look_up for each in parts))
        shape = (batch["x"].shape[0], 1, row.places, 1)
        return UniformCodes(look_up, self.quantizer.size, shape)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        shapes = {
            TOP: (*self.top_sides, self.top_quantizer.channels),
            BOTTOM: (*self.sides, self.quantizer.channels),
        }
        found = split_blocks(z, shapes)
        return self._read(found[TOP], found[BOTTOM], batch)

    def values_of(self, codes: Codes) -> Array:
        """The vector that `decode` takes, of rows of codes `[..., 1, places, 1]`."""
        parts = self.priors(1)
        return self._row(parts)(*(each.look_up for each in parts), codes)

    def start_codes(self, batch: Batch, share: float) -> tuple[str, ...]:
        """Begins both codebooks by k-means of their inputs; the parts that changed."""
        features = self.encoder(batch["x"])
        h = self.top_encoder({"x": features})
        self.top_quantizer.start(h, share)
        top = self.top_quantizer.nearest(h).values
        self.quantizer.start(self.mixer(features, top), share)
        return ("top_quantizer", "quantizer")

    def _read(self, top: Array, bottom: Array, batch: Batch) -> Distribution:
        maps = jnp.concatenate([self.doubler(top), bottom], -1)
        return self.decoder(maps, batch)

    def _row(self, parts: tuple[Any, ...]) -> RowOfCodes:
        return RowOfCodes(tuple(each.codes_shape[1:] for each in parts))
