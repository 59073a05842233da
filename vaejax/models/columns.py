"""Tables of numbers and categories: a likelihood for each column, and their reader."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vaejax.distributions import Bernoulli
from vaejax.distributions.columns import (
    Columns,
    TableDistribution,
    TableLayout,
    features,
    permuted,
    table_layout,
    take_columns,
)
from vaejax.models.counts import PoissonCounts
from vaejax.models.holes import observed, read_input
from vaejax.models.likelihoods import Likelihood
from vaejax.types import Array, Batch, Distribution


class TableLikelihood(Likelihood):
    """Real columns by the likelihood `real`, binary ones by Bernoulli, categories by
    their probabilities, counts by the likelihood `count`; constant columns are certain.
    """

    columns: Columns
    real: Likelihood
    count: Likelihood = dataclasses.field(default_factory=PoissonCounts)

    def outputs(self, channels: int) -> int:
        del channels
        own = table_layout(self.columns)
        single = len(own.binary) + len(own.count)
        classes = int(own.widths[own.category].sum())
        return self.real.outputs(len(own.real)) + single + classes

    def notes(self, values: str) -> tuple[str, ...]:
        return (*self.real.notes(values), *self.count.notes(values))

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        own = table_layout(self.columns)
        sizes = [self.real.outputs(len(own.real)), len(own.binary), len(own.count)]
        real, binary, count, values = jnp.split(out, np.cumsum(sizes), axis=-1)
        return TableDistribution(
            self.real(real, only(batch, own.real)),
            Bernoulli(binary),
            self.count(count, only(batch, own.count)),
            logits_of(values, own),
            self.columns,
        )


def only(batch: Batch, places: np.ndarray) -> Batch:
    """The batch with these columns alone."""
    own = {n: take_columns(batch[n], places) for n in ("x", "mask") if n in batch}
    return {**batch, **own}


def logits_of(values: Array, own: TableLayout) -> tuple[Array, ...]:
    """From logits side by side, in the order of the table, those of each group:
    `[..., columns, values]`.
    """
    widths = own.widths[own.category]
    first = dict(zip(own.category, np.cumsum(widths) - widths, strict=True))
    places = [
        np.add.outer([first[c] for c in group], np.arange(int(own.widths[group[0]])))
        for group in own.groups
    ]
    if not places:
        return ()
    flat = permuted(values, np.concatenate([p.reshape(-1) for p in places]))
    parts = jnp.split(flat, np.cumsum([p.size for p in places])[:-1], axis=-1)
    return tuple(
        part.reshape(*part.shape[:-1], *p.shape)
        for part, p in zip(parts, places, strict=True)
    )


class Reader(nn.Module):
    """Reads a table for an encoder: categories one-hot, counts by log(1 + n).

    Then `reader`, if any, reads that as if it were the table.
    """

    columns: Columns
    reader: nn.Module | None = None

    def __call__(self, batch: Batch) -> Array:
        own = table_layout(self.columns)
        x, mask = batch["x"], observed(batch)
        counts = np.zeros(len(self.columns), bool)
        counts[own.count] = True
        x = jnp.where(counts[None], jnp.log1p(jnp.where(counts[None], x, 0)), x)
        wide_mask = mask
        if own.groups:
            source = np.repeat(np.arange(len(self.columns)), own.widths)
            wide_mask = mask[..., source]
        x = features(x, self.columns) * wide_mask
        return read_input(self.reader, {**batch, "x": x, "mask": wide_mask})
