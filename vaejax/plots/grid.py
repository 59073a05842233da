"""Many images as one array, and that array as a file or a figure."""

import math
import os
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

from vaejax.errors import InputError
from vaejax.plots.frame import Picture
from vaejax.runtime.storage import path_of, written_whole

TILE = 60  # pixels of a tile's longer side, at least
WIDTH = 1300  # pixels that a row of tiles should not exceed
GAP = 2  # pixels between tiles
LETTER = 7  # pixels of a letter in a label, at most
BETWEEN = (0.35, 0.55, 0.8)  # blue between tiles: stands out from any grey edge


def image_grid(
    x: Float[np.ndarray, "N H W C"], columns: int | None = None, gap: int = GAP
) -> Float[np.ndarray, "height width 3"]:
    """Images side by side, row by row, `gap` blue pixels apart, as RGB.

    Tile i has its upper left pixel at row `i // columns * (H + gap)` and column
    `i % columns * (W + gap)`; places without an image are white.

    Args:
      x: images, clipped to [0, 1]; other than 1 or 3 channels are averaged to grey.
      columns: tiles of a row; by default the grid is as square as it can be.
      gap: pixels between tiles.

    Raises:
      InputError: there are no images.
    """
    x = visible(x)
    if not len(x):
        raise InputError("there are no images to draw")
    columns = columns or math.ceil(math.sqrt(len(x)))
    rows = -(-len(x) // columns)
    n, height, width, _ = x.shape
    tiles = np.ones((rows * columns, height + gap, width + gap, 3), np.float32)
    tiles[:n] = BETWEEN
    tiles[:n, :height, :width] = x
    tiles = tiles.reshape(rows, columns, *tiles.shape[1:]).swapaxes(1, 2)
    grid = tiles.reshape(rows * (height + gap), columns * (width + gap), 3)
    return grid[: len(grid) - gap, : grid.shape[1] - gap]


def visible(x: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
    """Grey or RGB images in [0, 1]."""
    x = np.clip(np.asarray(x, np.float32), 0, 1)
    return x if x.shape[-1] in (1, 3) else x.mean(-1, keepdims=True)


def magnification(shape: Sequence[int]) -> int:
    """Screen pixels for a pixel of an image `(H, W, C)`, so that a tile can be seen."""
    return max(1, -(-TILE // max(shape[:2])))


def enlarge(x: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N h w C"]:
    """Every pixel repeated, until the images can be seen."""
    scale = magnification(x.shape[1:])
    return x.repeat(scale, 1).repeat(scale, 2)


def columns_that_fit(shape: Sequence[int], most: int) -> int:
    """Number of enlarged images `(H, W, C)` in a row: at least 6, at most `most`."""
    return min(most, max(6, WIDTH // (shape[1] * magnification(shape))))


def save_grid(
    x: Float[np.ndarray, "N H W C"],
    path: str | os.PathLike[str],
    columns: int | None = None,
) -> None:
    """Writes images in [0, 1] as one picture file, enlarged where they are tiny."""
    grid = np.round(image_grid(enlarge(x), columns) * 255).astype(np.uint8)
    place = path_of(path)
    kind = Image.registered_extensions().get(place.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: give a name that ends like a picture's, as in .png")
    with written_whole(place) as file:
        Image.fromarray(grid).save(file, kind)


def grid_figure(
    x: Float[np.ndarray, "N H W C"],
    title: str,
    columns: int,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> Picture:
    """A grid of images as they are, pixel for pixel, under a title.

    The axes are placed in whole pixels of the figure: each pixel of `x` is one there.
    """
    grid = image_grid(x, columns)
    height, width = grid.shape[:2]
    margin = 10
    left = margin + max(map(len, row_labels), default=0) * LETTER
    wide = left + width + margin
    title = textwrap.fill(title, max(20, wide // 7))
    lines = title.count("\n") + 1
    high = height + margin + 18 * lines + (34 if column_labels else 16)
    figure = Picture(figsize=(wide / 100, high / 100), dpi=100)
    axes = figure.add_axes((left / wide, margin / high, width / wide, height / high))
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    axes.set_xticks(centres(len(column_labels), x.shape[2]), column_labels)
    axes.set_yticks(centres(len(row_labels), x.shape[1]), row_labels)
    axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure


def centres(count: int, size: int) -> list[float]:
    """The middles of tiles of a height or width, in pixels of the grid."""
    return [i * (size + GAP) + (size - 1) / 2 for i in range(count)]
