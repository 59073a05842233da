"""Examples of which a part is seen: the context that a completion is conditioned on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.data.preprocess import Preprocess
from vaejax.purposes import OfData
from vaejax.types import Array, Batch, Key, Size

SeenOf = Callable[[Key, tuple[int, ...]], Array]
"""The seen entries of examples of a shape: 1 or 0 each."""


def seen_region(height: int, width: int, region: str) -> np.ndarray:
    """1 where an image is seen, float32 `[height, width, 1]`.

    Quadrants are the lower left; with the upper left; with the upper right [as in
    Pyro's tutorial of Sohn et al. 2015].
    """
    seen = np.zeros((height, width, 1), np.float32)
    top, left = height // 2, width // 2
    if region in ("quadrant", "two_quadrants", "three_quadrants"):
        seen[top:, :left] = 1
    if region in ("two_quadrants", "three_quadrants"):
        seen[:top, :left] = 1
    if region == "three_quadrants":
        seen[:top, left:] = 1
    if region == "top":
        seen[:top] = 1
    if region == "left":
        seen[:, :left] = 1
    return seen


def always(seen: np.ndarray) -> SeenOf:
    """The same region of every example, `[height, width, 1]`."""
    return lambda key, shape: jnp.broadcast_to(jnp.asarray(seen)[None], shape)


def anything(key: Key, shape: tuple[int, ...]) -> Array:
    """Any part of each example, drawn at every access [as Ivanov et al. 2019, app. B].

    Of a table each entry with a probability that is uniform on [0, 1) for each row. Of
    an image, in equal shares, pixels so, or all but a rectangle, or a half of it.
    """
    rate_key, pixel_key, kind_key, block_key = jax.random.split(key, 4)
    count = shape[0]
    rate = jax.random.uniform(rate_key, (count, *(1,) * (len(shape) - 1)))
    single = shape if len(shape) == 2 else (*shape[:-1], 1)
    pixels = jax.random.uniform(pixel_key, single) < rate
    if len(shape) == 2:
        return pixels.astype(jnp.float32)
    u = jax.random.uniform(block_key, (4, count, 1))
    height, width = shape[1:3]
    rows = between(u[0], u[1], height)[:, :, None, None]
    columns = between(u[2], u[3], width)[:, None, :, None]
    # A half is a rectangle of full height or width that begins or ends in the middle.
    lower = (jnp.arange(height) >= height // 2)[None, :, None, None]
    right = (jnp.arange(width) >= width // 2)[None, None, :, None]
    side = jnp.where((u[1] < 0.5)[..., None, None], lower, right)
    half = side == (u[2] < 0.5)[..., None, None]
    kind = jax.random.randint(kind_key, (count, 1, 1, 1), 0, 3)
    seen = jnp.where(kind == 0, pixels, jnp.where(kind == 1, ~(rows & columns), half))
    return jnp.broadcast_to(seen, shape).astype(jnp.float32)


def between(one: Array, other: Array, length: int) -> Array:
    """Whether 0, 1, ... lie between two uniform points: bool `[batch, length]`."""
    low, high = jnp.minimum(one, other), jnp.maximum(one, other)
    place = (jnp.arange(length)[None] + 0.5) / length
    return (place >= low) & (place < high)


def with_context(
    preprocess: Preprocess, seen_of: SeenOf, region: np.ndarray | None = None
) -> Preprocess:
    """Batches with `context`, x where it is seen and 0 elsewhere, and `seen` itself.

    Nothing is seen that is not observed.

    Args:
      preprocess: of the examples.
      seen_of: what is seen of them in training.
      region: what is seen of every example; without one a query that is given no
        context sees nothing.
    """

    def apply(raw: Batch, key: Key) -> Batch:
        batch = preprocess.apply(raw, key)
        x: Array = batch["x"]
        seen = seen_of(jax.random.fold_in(key, OfData.SEEN), x.shape)
        seen = seen * batch["mask"] if "mask" in batch else seen
        return {**batch, "context": x * seen, "seen": seen}

    def derive(batch: Batch, shape: tuple[Size, ...]) -> Batch:
        if "seen" in batch:
            return with_seen(batch, batch["seen"])
        if region is not None:
            return with_seen(batch, jnp.broadcast_to(jnp.asarray(region)[None], shape))
        if "context" in batch:  # which of it is seen only the user knows
            return batch
        return with_seen({**batch, "context": jnp.zeros(shape)}, jnp.zeros(shape))

    return preprocess._replace(apply=apply, derive=derive)


def with_seen(batch: Batch, seen: Array) -> Batch:
    """`seen`, and the context where there is one or it follows from x."""
    seen = seen * batch["mask"] if "mask" in batch else seen
    known = batch.get("context", batch.get("x"))
    if known is None:
        return {**batch, "seen": seen}
    return {**batch, "seen": seen, "context": jnp.where(seen == 1, known, 0)}
