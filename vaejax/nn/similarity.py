"""Structural similarity of images, on one scale and on several: differentiable."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.errors import InputError
from vaejax.types import Array

Images = Float[Array, "batch height width channels"]

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SMALLEST = 3
"""The narrowest window: one of a single pixel has no variance."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM, the finest first [Wang et al. 2003, sec. 3.2]."""


def structural_similarity(x: Images, y: Images) -> Float[Array, " batch"]:
    """SSIM of each pair of images in [0, 1], by [Wang et al. 2004, eq. 13].

    With a Gaussian window of 11 pixels and standard deviation 1.5, K1 = 0.01,
    K2 = 0.03, and variances as weighted means (no n / (n - 1)). The mean over all
    places where the window is inside the image, and over channels. Where an image is
    narrower than 11 pixels, the window is the largest odd number of pixels that fits.

    Args:
      x: images `[batch, height, width, channels]`.
      y: others of the same shape.

    Raises:
      InputError: the images are narrower than three pixels.
    """
    luminance, structure = local_similarities(x, y)
    return (luminance * structure).mean((1, 2, 3))


def local_similarities(x: Images, y: Images) -> tuple[Array, Array]:
    """SSIM's two factors at each place of the window, `[batch, places, places, c]`.

    Luminance, and contrast times structure [Wang et al. 2004, eqs. 6, 9 and 10].

    Raises:
      InputError: the images are narrower than three pixels.
    """
    size = ssim_window(x.shape[1:])
    if not size:
        raise InputError(f"images {list(x.shape[1:3])} are too small for SSIM")
    rows, columns = (averaging(n, size) for n in x.shape[1:3])

    def local_mean(image: Array) -> Array:
        down = jnp.einsum("ih,bhwc->biwc", rows, image)
        return jnp.einsum("jw,biwc->bijc", columns, down)

    # Around a constant, where E[x^2] - E[x]^2 keeps more digits of small variances.
    u, v = x - 0.5, y - 0.5
    mean_u, mean_v = local_mean(u), local_mean(v)
    var_u = local_mean(jnp.square(u)) - jnp.square(mean_u)
    var_v = local_mean(jnp.square(v)) - jnp.square(mean_v)
    covariance = local_mean(u * v) - mean_u * mean_v
    mean_x, mean_y = mean_u + 0.5, mean_v + 0.5
    luminance = (2 * mean_x * mean_y + K1**2) / (
        jnp.square(mean_x) + jnp.square(mean_y) + K1**2
    )
    structure = (2 * covariance + K2**2) / (var_u + var_v + K2**2)
    return luminance, structure


def multiscale_similarity(x: Images, y: Images) -> Float[Array, " batch"]:
    """MS-SSIM of each pair of images in [0, 1], by [Wang et al. 2003, eq. 7].

    The product over scales of mean contrast and structure, and at the coarsest scale of
    mean SSIM, each to the power of its weight; then the mean over channels. From scale
    to scale images are halved by means of 2x2 pixels, where an odd last row or column
    is left out. Five scales need 176 pixels; smaller images have those scales that hold
    a window of 11 pixels, whose weights are divided by their sum. Factors below zero,
    whose powers are no numbers, count as zero.

    Args:
      x: images `[batch, height, width, channels]`.
      y: others of the same shape.

    Raises:
      InputError: the images are narrower than 11 pixels.
    """
    scales = ssim_scales(x.shape[1:])
    if not scales:
        raise InputError(f"images {list(x.shape[1:3])} are too small for MS-SSIM")
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    found = jnp.ones((len(x), x.shape[-1]))
    for scale, weight in enumerate(weights):
        luminance, structure = local_similarities(x, y)
        if scale == scales - 1:
            structure = luminance * structure
        # The slope of a power is infinite at zero: there it is none.
        factor = structure.mean((1, 2))
        positive = factor > 0
        power = jnp.where(positive, factor, 1.0) ** weight
        found *= jnp.where(positive, power, 0.0)
        x, y = (halved_image(each) for each in (x, y))
    return found.mean(1)


def halved_image(x: Images) -> Array:
    """Means of 2x2 pixels, without an odd last row or column."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    x = x[:, : 2 * rows, : 2 * columns]
    return x.reshape(batch, rows, 2, columns, 2, channels).mean((2, 4))


def ssim_scales(shape: tuple[int, ...]) -> int:
    """The number of scales of MS-SSIM that images of this shape have, at most five."""
    side = min(shape[:2])
    return sum(side >> n >= WINDOW for n in range(len(SCALE_WEIGHTS)))


def ssim_window(shape: tuple[int, ...]) -> int:
    """Width of the window for images of this shape; 0 where they are too small."""
    side = min(WINDOW, *shape[:2])
    side -= 1 - side % 2
    return side if side >= SMALLEST else 0


def averaging(length: int, size: int) -> Float[np.ndarray, "places length"]:
    """Weights of a Gaussian window at each place inside `length` pixels.

    As a matrix: separable windows are two products, which compile and run fast.
    """
    offsets = np.arange(size) - size // 2
    weights = np.exp(-np.square(offsets) / (2 * SIGMA**2))
    weights /= weights.sum()
    places = length - size + 1
    found = np.zeros((places, length), np.float32)
    for place in range(places):
        found[place, place : place + size] = weights
    return found
