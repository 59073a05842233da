"""The likelihood of models that have it exactly: no draws, no bound."""

import math

import flax.linen as nn

from vaejax.experiment import Metric, Quantity
from vaejax.inference.terms import infer
from vaejax.metrics.base import averages
from vaejax.types import Array, Batch, Key, Variables


def exact_likelihood() -> Metric:
    """-log p(x) of a model of whole numbers without latents, nats, and as bits/dim.

    `bits_per_dim` is the bits of an example over its numbers: of maps of codes, bits of
    a code.
    """
    quantities = {
        "nll": Quantity("-log p(x), exact", "nats", in_line=True),
        "bits_per_dim": Quantity("the same for each code", "bits of a code", True),
    }

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        nats = -nn.apply(infer, model)(variables, batch, key).log_px[0]
        size = math.prod(batch["x"].shape[1:])
        return {"nll": nats, "bits_per_dim": nats / (size * math.log(2))}

    return averages(quantities, values)
