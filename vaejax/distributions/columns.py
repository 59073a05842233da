"""Tables of numbers and categories: one distribution, of columns of several kinds.

x is `[..., D]`, a category by its number. What encoders read, and what is averaged to
impute, are features: a category takes as many as it has values, any other column one.
Columns of a kind (and categories of as many values) are evaluated in one call.
"""

import dataclasses
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

from vaejax.data.spec import Column
from vaejax.distributions import encoding, expectation
from vaejax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class Table(Sequence[Column]):
    """Columns as one value: Flax walks through a module's tuples, entry by entry, each
    time that it is bound, which takes minutes where there are thousands.
    """

    columns: tuple[Column, ...]

    @overload
    def __getitem__(self, place: int) -> Column: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Column, ...]: ...
    def __getitem__(self, place: int | slice) -> Column | tuple[Column, ...]:
        return self.columns[place]

    def __len__(self) -> int:
        return len(self.columns)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.columns)


Columns = Table | tuple[Column, ...]


class TableLayout(NamedTuple):
    """Places of columns and their features, as arrays."""

    real: np.ndarray
    binary: np.ndarray
    count: np.ndarray
    groups: tuple[np.ndarray, ...]
    """Categories of as many values, fewest values first."""
    constant: np.ndarray
    widths: np.ndarray
    """Number of features of each column, `[D]`."""

    @property
    def order(self) -> np.ndarray:
        """All columns by kind: real, binary, count, categories by group, constant."""
        kinds = (self.real, self.binary, self.count, *self.groups, self.constant)
        return np.concatenate(kinds)

    @property
    def category(self) -> np.ndarray:
        """Categories in the order of the table."""
        return np.sort(np.concatenate([np.zeros(0, int), *self.groups]))

    @property
    def starts(self) -> np.ndarray:
        """The first feature of each column, `[D]`."""
        return np.cumsum(self.widths) - self.widths

    def features_of(self, group: np.ndarray) -> np.ndarray:
        """Features of the categories of a group, `[columns, values]`."""
        return self.starts[group][:, None] + np.arange(int(self.widths[group[0]]))


@cache
def table_layout(columns: Columns) -> TableLayout:
    """The layout of a table with these columns."""
    kinds = np.array([column.kind for column in columns])
    values = np.array([len(c.values) if c.kind == "category" else 1 for c in columns])
    category = kinds == "category"
    groups = [
        np.flatnonzero(category & (values == width))
        for width in np.unique(values[category])
    ]
    kind = {k: np.flatnonzero(kinds == k) for k in ("real", "binary", "count")}
    constant = np.flatnonzero(kinds == "constant")
    return TableLayout(**kind, groups=tuple(groups), constant=constant, widths=values)


def are_numbers(columns: Sequence[Column]) -> np.ndarray:
    """bool `[D]`: whether a column's imputation is judged by its distance."""
    return np.array([column.kind in ("real", "count") for column in columns])


def mixed(columns: Sequence[Column]) -> bool:
    """Whether there are columns that are not real numbers."""
    return any(column.kind != "real" for column in columns)


def take_columns(x: Array, places: np.ndarray) -> Array:
    """The columns in these places (ascending): a slice where they are adjacent."""
    first = int(places[0]) if len(places) else 0
    if np.array_equal(places, np.arange(first, first + len(places))):
        return x[..., first : first + len(places)]
    return x[..., places]


def permuted(x: Array, order: np.ndarray) -> Array:
    """x[..., order] of a permutation, whose gradient is a permutation, too.

    XLA's own gradient of a gather is a scatter, which is slow and no permutation to it.
    """
    if np.array_equal(order, np.arange(len(order))):
        return x
    back = np.argsort(order)

    @jax.custom_vjp
    def permute(x: Array) -> Array:
        return x[..., order]

    permute.defvjp(lambda x: (x[..., order], None), lambda _, g: (g[..., back],))
    return permute(x)


class TableDistribution(dist.Distribution):
    """Independent columns of several kinds; `log_prob` is `[..., D]`.

    Args:
      real, binary, count: of the columns of these kinds, in their order.
      logits: of categories of as many values, `[..., columns, values]`.
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

    def _joined(
        self, real: Array, binary: Array, count: Array, categories: list[Array]
    ) -> Array:
        """`[..., D]` from the columns of each kind; constant ones are 0."""
        own = table_layout(self.columns)
        none = jnp.zeros((*real.shape[:-1], len(own.constant)), real.dtype)
        parts = [real, binary, count, *categories, none]
        return permuted(jnp.concatenate(parts, -1), np.argsort(own.order))

    def log_prob(self, value: Array) -> Array:
        own = table_layout(self.columns)
        return self._joined(
            self.real.log_prob(take_columns(value, own.real)),
            self.binary.log_prob(take_columns(value, own.binary)),
            self.count.log_prob(take_columns(value, own.count)),
            [
                jnp.sum(
                    one_hot(take_columns(value, group), logits.shape[-1])
                    * nn.log_softmax(logits),
                    -1,
                )
                for group, logits in zip(own.groups, self.logits, strict=True)
            ],
        )

    @property
    def mean(self) -> Array:
        """Expectations; of a category its most probable value."""
        most = [logits.argmax(-1).astype(jnp.float32) for logits in self.logits]
        return self._joined(self.real.mean, self.binary.mean, self.count.mean, most)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        own = table_layout(self.columns)
        keys = jax.random.split(key, 3 + len(own.category))
        turn = [np.searchsorted(own.category, group) for group in own.groups]
        return self._joined(
            self.real.sample(keys[0], sample_shape),
            self.binary.sample(keys[1], sample_shape).astype(jnp.float32),
            self.count.sample(keys[2], sample_shape).astype(jnp.float32),
            [
                categorical(keys[3 + places], logits, sample_shape)
                for places, logits in zip(turn, self.logits, strict=True)
            ],
        )


def categorical(
    keys: Key, logits: Array, sample_shape: tuple[int, ...]
) -> Float[Array, "... columns"]:
    """Draws of categories by their numbers, a key for each column."""

    def draw(key: Key, own: Array) -> Array:
        shape = (*sample_shape, *own.shape[:-1])
        return jax.random.categorical(key, own, shape=shape).astype(jnp.float32)

    return jax.vmap(draw, (0, -2), -1)(keys, logits)


def one_hot(codes: Array, size: int) -> Array:
    """One-hot features of codes that are kept as floats."""
    return nn.one_hot(codes.astype(jnp.int32), size)


@expectation.register
def _(px: TableDistribution) -> Float[Array, "... features"]:
    own = table_layout(px.columns)
    shares = [nn.softmax(logits) for logits in px.logits]
    shares = [share.reshape(*share.shape[:-2], -1) for share in shares]
    none = jnp.zeros((*px.batch_shape[:-1], len(own.constant)))
    found = [px.real.mean, px.binary.mean, px.count.mean, *shares, none]
    single = [own.starts[places] for places in (own.real, own.binary, own.count)]
    grouped = [own.features_of(group).reshape(-1) for group in own.groups]
    places = np.concatenate([*single, *grouped, own.starts[own.constant]])
    return permuted(jnp.concatenate(found, -1), np.argsort(places))


@encoding.register
def _(px: TableDistribution, x: Array) -> Float[Array, "... features"]:
    return features(x, px.columns)


def features(
    x: Float[Array, "... D"], columns: Columns
) -> Float[Array, "... features"]:
    """x with every category one-hot."""
    own = table_layout(columns)
    if not own.groups:
        return x
    source = np.repeat(np.arange(len(columns)), own.widths)
    code = np.arange(len(source)) - own.starts[source]
    lead = (None,) * (x.ndim - 1)
    is_category = (own.widths[source] > 1)[lead]
    wide = x[..., source]
    hits = wide.astype(jnp.int32) == code[lead]
    return jnp.where(is_category, hits.astype(x.dtype), wide)


def decide(
    mean: Float[Array, "... features"], columns: Columns
) -> Float[Array, "... D"]:
    """The value of each column from the average of features: the mean of numbers, the
    most probable of two or more values.
    """
    own = table_layout(columns)
    most = [
        mean[..., own.features_of(group)].argmax(-1).astype(mean.dtype)
        for group in own.groups
    ]
    bits = (mean[..., own.starts[own.binary]] > 0.5).astype(mean.dtype)
    real, count, constant = (
        mean[..., own.starts[places]] for places in (own.real, own.count, own.constant)
    )
    found = jnp.concatenate([real, bits, count, *most, constant], -1)
    return permuted(found, np.argsort(own.order))
