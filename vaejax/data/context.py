"""Examples of which a part is seen: the context that a completion is conditioned on."""

import jax.numpy as jnp
import numpy as np

from vaejax.data.preprocess import Preprocess
from vaejax.types import Array, Batch, Key


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


def with_context(preprocess: Preprocess, seen: np.ndarray) -> Preprocess:
    """Batches with `context`, x where it is seen and 0 elsewhere, and `seen` itself."""

    def apply(raw: Batch, key: Key) -> Batch:
        batch = preprocess.apply(raw, key)
        x: Array = batch["x"]
        mask = jnp.broadcast_to(jnp.asarray(seen)[None], x.shape)
        return {**batch, "context": x * mask, "seen": mask}

    return preprocess._replace(apply=apply)
