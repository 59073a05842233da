"""Tables of numbers and categories: a likelihood for each column.

x is `[..., D]`, a category by its number. What encoders read, and what is averaged to
impute, are features: a category takes as many as it has values, any other column one.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

from vaejax.data.dataset import Column
from vaejax.distributions import Bernoulli, encoding, expectation
from vaejax.likelihoods import Likelihood
from vaejax.models.holes import observed, read
from vaejax.types import Array, Batch, Distribution, Key

Columns = tuple[Column, ...]


def of_kind(columns: Sequence[Column], kind: str) -> list[int]:
    """The places of the columns of a kind."""
    return [place for place, column in enumerate(columns) if column.kind == kind]


def widths(columns: Sequence[Column]) -> list[int]:
    """How many features each column takes."""
    return [len(c.values) if c.kind == "category" else 1 for c in columns]


def are_numbers(columns: Sequence[Column]) -> np.ndarray:
    """bool `[D]`: whether a column's imputation is judged by its distance."""
    return np.array([column.kind in ("real", "count") for column in columns])


def mixed(columns: Sequence[Column]) -> bool:
    """Whether there are columns that are not real numbers."""
    return any(column.kind != "real" for column in columns)


class TableLikelihood(Likelihood):
    """Real columns by the likelihood `real`, binary ones by Bernoulli, categories by
    their probabilities, counts by Poisson; constant columns are certain.
    """

    columns: Columns
    real: Likelihood

    def outputs(self, channels: int) -> int:
        del channels
        classes = sum(len(c.values) for c in self.columns if c.kind == "category")
        single = len(of_kind(self.columns, "binary") + of_kind(self.columns, "count"))
        return self.real.outputs(len(of_kind(self.columns, "real"))) + single + classes

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        reals = np.array(of_kind(self.columns, "real"), int)
        binary = len(of_kind(self.columns, "binary"))
        count = len(of_kind(self.columns, "count"))
        sizes = [len(c.values) for c in self.columns if c.kind == "category"]
        outputs = [self.real.outputs(len(reals)), binary, count, *sizes]
        parts = jnp.split(out, np.cumsum(outputs)[:-1], axis=-1)
        own = {name: batch[name][..., reals] for name in ("x", "mask") if name in batch}
        return TableDistribution(
            self.real(parts[0], {**batch, **own}),
            Bernoulli(parts[1]),
            dist.Poisson(jnp.exp(jnp.minimum(parts[2], 20.0)), validate_args=False),
            tuple(parts[3:]),
            self.columns,
        )


class TableDistribution(dist.Distribution):
    """Independent columns of several kinds; `log_prob` is `[..., D]`.

    Args:
      real, binary, count: of the columns of these kinds, in their order.
      logits: of each category, `[..., values]`.
      columns: what the columns are.
    """

    arg_constraints = {}
    pytree_data_fields = ("real", "binary", "count", "logits")
    pytree_aux_fields = ("columns",)

    def __init__(
        self,
        real: Any,
        binary: Any,
        count: Any,
        logits: tuple[Array, ...],
        columns: Columns,
    ) -> None:
        self.real, self.binary, self.count = real, binary, count
        self.logits, self.columns = logits, columns
        lead = real.batch_shape[:-1]
        super().__init__(batch_shape=(*lead, len(columns)), validate_args=False)

    def _joined(self, parts: dict[str, Array], categories: list[Array]) -> Array:
        """`[..., D]` from the columns of each kind; constant ones are 0."""
        found = [parts[kind] for kind in ("real", "binary", "count")]
        found += [value[..., None] for value in categories]
        kinds = ("real", "binary", "count", "category", "constant")
        order = [place for kind in kinds for place in of_kind(self.columns, kind)]
        found += [
            jnp.zeros((*found[0].shape[:-1], len(of_kind(self.columns, "constant"))))
        ]
        return jnp.concatenate(found, -1)[..., np.argsort(order)]

    def _of(self, value: Array, kind: str) -> Array:
        return value[..., np.array(of_kind(self.columns, kind), int)]

    def log_prob(self, value: Array) -> Array:
        codes = self._of(value, "category")
        return self._joined(
            {
                "real": self.real.log_prob(self._of(value, "real")),
                "binary": self.binary.log_prob(self._of(value, "binary")),
                "count": self.count.log_prob(self._of(value, "count")),
            },
            [
                jnp.sum(
                    one_hot(codes[..., n], logits.shape[-1]) * nn.log_softmax(logits),
                    -1,
                )
                for n, logits in enumerate(self.logits)
            ],
        )

    @property
    def mean(self) -> Array:
        """Expectations; of a category its most probable value."""
        numbers = {
            kind: getattr(self, kind).mean for kind in ("real", "binary", "count")
        }
        most = [logits.argmax(-1).astype(jnp.float32) for logits in self.logits]
        return self._joined(numbers, most)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        keys = jax.random.split(key, 3 + len(self.logits))
        return self._joined(
            {
                "real": self.real.sample(keys[0], sample_shape),
                "binary": self.binary.sample(keys[1], sample_shape).astype(jnp.float32),
                "count": self.count.sample(keys[2], sample_shape).astype(jnp.float32),
            },
            [
                jax.random.categorical(
                    k, logits, shape=(*sample_shape, *logits.shape[:-1])
                ).astype(jnp.float32)
                for k, logits in zip(keys[3:], self.logits, strict=True)
            ],
        )


def one_hot(codes: Array, size: int) -> Array:
    """One-hot features of codes that are kept as floats."""
    return nn.one_hot(codes.astype(jnp.int32), size)


@expectation.register
def _(px: TableDistribution) -> Float[Array, "... features"]:
    places = of_kind(px.columns, "category")
    probabilities = dict(zip(places, map(nn.softmax, px.logits), strict=True))
    return by_column(px.mean, px.columns, lambda place, value: probabilities[place])


@encoding.register
def _(px: TableDistribution, x: Array) -> Float[Array, "... features"]:
    return features(x, px.columns)


def features(
    x: Float[Array, "... D"], columns: Columns
) -> Float[Array, "... features"]:
    """x with every category one-hot."""
    return by_column(
        x, columns, lambda place, code: one_hot(code, len(columns[place].values))
    )


def by_column(x: Array, columns: Columns, of_category: Any) -> Array:
    """The features of each column side by side."""
    return jnp.concatenate(
        [
            of_category(place, x[..., place])
            if column.kind == "category"
            else x[..., place : place + 1]
            for place, column in enumerate(columns)
        ],
        -1,
    )


def decide(
    mean: Float[Array, "... features"], columns: Columns
) -> Float[Array, "... D"]:
    """The value of each column from the average of features: the mean of numbers, the
    most probable of two or more values.
    """
    found, start = [], 0
    for column, width in zip(columns, widths(columns), strict=True):
        own = mean[..., start : start + width]
        start += width
        if column.kind == "category":
            own = own.argmax(-1, keepdims=True).astype(mean.dtype)
        elif column.kind == "binary":
            own = (own > 0.5).astype(mean.dtype)
        found.append(own)
    return jnp.concatenate(found, -1)


class Reader(nn.Module):
    """What an encoder reads of a table: categories one-hot, counts by log(1 + n).

    Then `reader`, if any, reads that as if it were the table.
    """

    columns: Columns
    reader: nn.Module | None = None

    def __call__(self, batch: Batch) -> Array:
        x, mask = batch["x"], observed(batch)
        counts = np.array([column.kind == "count" for column in self.columns])
        x = jnp.where(counts[None], jnp.log1p(jnp.where(counts[None], x, 0)), x)
        wide_mask = jnp.repeat(mask, np.array(widths(self.columns)), axis=-1)
        x = features(x, self.columns) * wide_mask
        return read(self.reader, {**batch, "x": x, "mask": wide_mask})
