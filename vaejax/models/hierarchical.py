"""Models with several blocks of latents."""

import flax.linen as nn

from vaejax.distributions.temperature import cooled
from vaejax.inference.latents import (
    Block,
    Keys,
    Source,
    draw,
    draw_each,
    fold_each,
    latent_term,
)
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.purposes import OfLayer
from vaejax.types import Array, Batch, Distribution


class TwoLayerVAE(LatentModel):
    """p(z2) p(z1 | z2) p(x | z1), inferred upwards by q(z1 | x) q(z2 | z1).

    [Burda et al. 2016, sec. 2 and 5]. `decode` takes z1, which `encode` gives; the
    prior of z1 is ancestral: it has no density, so that it can be drawn only.
    """

    encoder: nn.Module
    top_encoder: nn.Module
    decoder: nn.Module
    top_decoder: nn.Module
    prior: nn.Module

    def terms(self, batch: Batch, source: Source) -> Inference:
        q1 = self.encoder(batch)
        z1, log_q1 = source(Block("z1", q1))
        q2, p2 = self.top_encoder(z1), self.prior(batch)
        z2, log_q2 = source(Block("z2", q2, p2, OfLayer.TOP, each=True))
        px = self.decoder(z1, batch)
        latents = {
            "z1": latent_term(q1, self.top_decoder(z2), z1, log_q1, analytic=False),
            "z2": latent_term(q2, p2, z2, log_q2),
        }
        return Inference(log_observed(px, batch), latents, px)

    def encode(self, batch: Batch) -> Distribution:
        return self.encoder(batch)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        return self.decoder(z, batch)

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Array:
        return self.draw_blocks(batch, keys, temperature)["z1"]

    def draw_blocks(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> dict[str, Array]:
        p2 = cooled(self.prior(batch), temperature)
        z2, _ = draw(p2, fold_each(keys, OfLayer.TOP))
        z1, _ = draw_each(cooled(self.top_decoder(z2), temperature), keys)
        return {"z1": z1, "z2": z2}

    def from_top(self, batch: Batch, source: Source) -> Distribution:
        q1 = self.encoder(batch)
        q2, p2 = self.top_encoder(q1.mean[None]), self.prior(batch)
        z2, _ = source(Block("z2", q2, p2, number=0, each=True))
        z1, _ = source(Block("z1", q1, self.top_decoder(z2), number=1))
        return self.decoder(z1, batch)
