"""Use of the codes of a quantized autoencoder, over a split."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vaejax.experiment import Metric, Quantity
from vaejax.nn import codebooks as cb
from vaejax.types import Array, Batch, Key, Variables


def code_usage(size: int, levels: int = 1, block: int = 0) -> Metric:
    """Use of the codes of all examples of a split.

    `usage` is the share of codes that occur, `perplexity` exp(H) of the distribution of
    a code over examples and positions, and `even_usage` that over `size`, which is 1
    where all codes are equally frequent. With several levels, `usage` is the mean over
    levels, and so is H. `usage` grows with the split, since rare codes do occur in a
    large one: compare equal splits.

    Args:
      size: number of codes.
      levels: codes of each position.
      block: of a model with several maps of codes, the number of one, 1 next to the
        data; then names end with it, as `usage_z1`. 0: there is one map.
    """

    end = f"_z{block}" if block else ""

    def update(
        acc: Array, model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> Array:
        del key
        q: Any = model.apply(variables, batch, method="encode")
        codes = q.blocks[-block].codes if block else q.codes
        return acc + cb.count_codes(codes, size, batch["weight"])

    def compute(acc: Array) -> dict[str, Array]:
        perplexity = jnp.exp(cb.code_entropy(acc))
        return {
            f"usage{end}": cb.share_used(acc),
            f"perplexity{end}": perplexity,
            f"even_usage{end}": perplexity / size,
        }

    told = {
        f"usage{end}": Quantity("share of the codes that occur", "share", in_line=True),
        f"perplexity{end}": Quantity("perplexity of the codes", "codes", in_line=True),
        f"even_usage{end}": Quantity("perplexity over the number of codes", "share"),
    }
    return Metric(lambda: jnp.zeros((levels, size), jnp.int32), update, compute, told)
