"""Use of the codes of a quantized autoencoder, over a split."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.nn import codebooks as cb
from vaejax.types import Array, Batch, Key, Variables


def code_usage(size: int, levels: int = 1) -> Metric:
    """Use of the codes of all examples of a split.

    `usage` is the share of codes that occur, `perplexity` exp(H) of the distribution of
    a code over examples and positions, and `even_usage` that over `size`, which is 1
    where all codes are equally frequent. With several levels, `usage` is the mean over
    levels, and so is H. `usage` grows with the split, since rare codes do occur in a
    large one: compare equal splits.

    Args:
      size: number of codes.
      levels: codes of each position.
    """

    def update(
        acc: Array, model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> Array:
        del key
        q: Any = model.apply(variables, batch, method="encode")
        return acc + cb.count_codes(q.codes, size, batch["weight"])

    def compute(acc: Array) -> dict[str, Array]:
        perplexity = jnp.exp(cb.code_entropy(acc))
        return {
            "usage": cb.share_used(acc),
            "perplexity": perplexity,
            "even_usage": perplexity / size,
        }

    told = {
        "usage": Quantity("share of the codes that occur", "share", in_line=True),
        "perplexity": Quantity("perplexity of the codes", "codes", in_line=True),
        "even_usage": Quantity("perplexity over the number of codes", "share"),
    }
    return Metric(lambda: jnp.zeros((levels, size), jnp.int32), update, compute, told)
