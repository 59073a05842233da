"""Learned codebooks: the nearest code, by gradient or as moving averages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Float

from vaejax.distributions.codes import Codes, Map, Quantized, UniformCodes
from vaejax.nn import codebooks as cb
from vaejax.nn.layers import batch_axis, sum_over_devices
from vaejax.types import Array, Size

STATS = "batch_stats"
START = nn.initializers.variance_scaling(
    1.0, "fan_in", "uniform", in_axis=-1, out_axis=-2, batch_axis=0
)
"""How a codebook begins: uniform, of variance 1 / channels."""
OF_REVIVAL = 71
"""The seed of the places that codes are revived at, by the number of the pass."""


def look_up(codebook: Float[Array, "levels size channels"], codes: Codes) -> Array:
    """The sum over levels of what codes stand for: `[..., height, width, channels]`."""
    return code_entries(codebook, codes).sum(-2)


def code_entries(codebook: Array, codes: Codes) -> Float[Array, "... levels channels"]:
    """The vector that the code of each level stands for."""
    levels = jnp.arange(codebook.shape[0]).reshape((1,) * (codes.ndim - 1) + (-1,))
    return codebook[jnp.broadcast_to(levels, codes.shape), codes]


def unit(x: Array) -> Array:
    """x with vectors of length 1 along the last axis."""
    square = jnp.square(x).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, cb.LEAST))


class VectorQuantizer(nn.Module):
    """The nearest of learned codes [van den Oord et al. 2017, eq. 1 and 2].

    With several levels, each quantizes what those before left over, by a codebook of
    its own [Zeghidour et al. 2021, alg. 1].

    The codebook is learned by gradient or, with a `decay`, is the moving average of
    what its codes were nearest to [van den Oord et al. 2017, eq. 6 to 8]. Then it is in
    `batch_stats`, and moves in passes in which these are mutable. The averages of
    counts and sums begin at 0, so that their ratio is a mean of data alone, from the
    first batch on; with decay 0 a pass is a step of Lloyd's algorithm. It moves by its
    own decay, also where parameters are averaged.
    """

    size: int = 512
    channels: int = 64
    levels: int = 1
    decay: float | None = None
    revive: float = 0.0
    """Share of the mean use of a code below which a code is dead: it moves to a point
    of the batch that is far from its code, and counts as used like others. 0: never."""
    normalized: bool = False
    """Whether codes and inputs have length 1 [Yu et al. 2022, sec. 3.2]."""
    softness: float = 0.0
    """Squared distance by which a soft choice of a code falls to 1 / e; 0: none."""

    def setup(self) -> None:
        shape = (self.levels, self.size, self.channels)
        if self.decay is None:
            self.param("codebook", START, shape)
            return

        def first() -> Array:
            return START(self.make_rng("params"), shape)

        self.moving = self.variable(STATS, "codebook", first)
        self.counts = self.variable(STATS, "counts", jnp.zeros, shape[:2])
        self.sums = self.variable(STATS, "sums", jnp.zeros, shape)
        self.passes = self.variable(STATS, "passes", jnp.zeros, (), jnp.int32)

    @property
    def codebook(self) -> Float[Array, "levels size channels"]:
        """The vectors that the codes of each level stand for."""
        if self.decay is None:  # read here, since `start` may follow `setup`
            found = self.get_variable("params", "codebook")
        else:
            found = self.moving.value
        return unit(found) if self.normalized else found

    def __call__(self, h: Map) -> Quantized:
        return self._moved(self.nearest(h))

    def nearest(self, h: Map) -> Quantized:
        """The nearest codes, which no codebook moves by."""
        codebook, inputs = self.codebook, unit(h) if self.normalized else h
        rest, codes, logits = inputs, [], []
        for book in codebook:
            points = rest.reshape(-1, self.channels)
            codes.append(cb.nearest_codes(points, book).reshape(h.shape[:-1]))
            if self.softness:
                logits.append(cb.choice_logits(rest, book, self.softness))
            rest = rest - jax.lax.stop_gradient(book[codes[-1]])
        found = jnp.stack(codes, -1)
        return Quantized(
            inputs,
            code_entries(codebook, found),
            found,
            jnp.stack(logits, -2) if logits else None,
        )

    def values_of(self, codes: Codes) -> Array:
        """The map that codes stand for, `[..., height, width, channels]`."""
        return look_up(self.codebook, codes)

    def prior(self, examples: Size, height: int, width: int) -> UniformCodes:
        """All codes alike, over maps of that height and width."""
        shape = (examples, height, width, self.levels)
        return UniformCodes(Partial(look_up, self.codebook), self.size, shape)

    def start(self, h: Map, share: float) -> None:
        """Begins with codes of k-means, level by level; of the inputs `share` are as
        many as a batch has.
        """
        points, books, found = h.reshape(-1, self.channels), [], []
        points = unit(points) if self.normalized else points
        for level in range(self.levels):
            key = jax.random.fold_in(jax.random.key(OF_REVIVAL), level)
            book = cb.k_means(points, self.size, key)
            codes = cb.nearest_codes(points, book)
            found.append(cb.assigned(points, codes, self.size))
            books.append(book)
            points = points - book[codes]
        codebook = jnp.stack(books)
        if self.decay is None:
            self.put_variable("params", "codebook", codebook)
            return
        self.moving.value = codebook
        self.counts.value = share * jnp.stack([each.counts for each in found])
        self.sums.value = share * jnp.stack([each.sums for each in found])

    def _moved(self, q: Quantized) -> Quantized:
        """q; the codebook moves where it may."""
        writes = self.is_mutable_collection(STATS) and not self.is_initializing()
        if self.decay is None or not writes:
            return q
        points = by_level(jax.lax.stop_gradient(q.residuals))
        codes = q.codes.reshape(-1, self.levels).T
        new = jax.vmap(cb.assigned, (0, 0, None))(points, codes, self.size)
        new = sum_over_devices(new)
        keep, old = self.decay, cb.Assigned(self.counts.value, self.sums.value)
        now = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, old, new)
        book = jax.vmap(cb.code_means)(now, self.moving.value)
        dead = jnp.zeros(now.counts.shape, bool)
        if self.revive:
            entries = by_level(jax.lax.stop_gradient(q.entries))
            fresh = jax.vmap(far_points, (0, 0, None, None))(
                points, entries, self.size, self.passes.value
            )
            now, book, dead = self._revived(now, book, fresh)
        self.counts.value, self.sums.value = now
        self.moving.value = book
        self.passes.value = self.passes.value + 1
        return Quantized(q.inputs, q.entries, q.codes, q.logits, dead.sum())

    def _revived(
        self, now: cb.Assigned, book: Array, fresh: Array
    ) -> tuple[cb.Assigned, Array, Array]:
        """Dead codes at fresh places of the batch, and which these are."""
        mean = now.counts.mean(-1, keepdims=True)
        dead = now.counts < self.revive * mean
        counts = jnp.where(dead, mean, now.counts)
        sums = jnp.where(dead[..., None], mean[..., None] * fresh, now.sums)
        book = jnp.where(dead[..., None], fresh, book)
        return cb.Assigned(counts, sums), book, dead


def by_level(
    values: Float[Array, "batch height width levels channels"],
) -> Float[Array, "levels points channels"]:
    """The points of each level."""
    return values.reshape(-1, *values.shape[-2:]).swapaxes(0, 1)


def far_points(
    points: Float[Array, "points channels"],
    entries: Float[Array, "points channels"],
    count: int,
    number: Array,
) -> Float[Array, "count channels"]:
    """Points of the batch that are far from their codes, drawn by a number.

    All devices have the same ones: each comes from a device that all agree on.
    """
    key = jax.random.fold_in(jax.random.key(OF_REVIVAL), number)
    rows, device = jax.random.split(key)
    fresh = points[cb.far_places(points, entries, count, rows)]
    if (axis := batch_axis()) is None:
        return fresh
    whose = jax.random.randint(device, (count,), 0, jax.lax.axis_size(axis))
    mine = (whose == jax.lax.axis_index(axis))[:, None]
    return sum_over_devices(jnp.where(mine, fresh, 0.0))
