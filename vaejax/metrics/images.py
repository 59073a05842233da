"""How close reconstructed images are to theirs, in grey levels: PSNR, L1, SSIM."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.experiment import Metric, Quantity
from vaejax.metrics.base import averages
from vaejax.models import conditions_of, generates, infers
from vaejax.types import Array, Batch, Key, Variables

Images = Float[Array, "batch height width channels"]

LEAST_ERROR = 1e-10
"""The mean squared error that a PSNR of 100 dB has: none is said to be higher."""
GREY = ("grey", "dequantized")
"""Pixels that are grey levels or colours, and no bits."""
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SMALLEST = 3
"""The narrowest window: one of a single pixel has no variance."""


SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales of MS-SSIM, the finest first [Wang et al. 2003, sec. 3.2]."""


def image_quality(shape: tuple[int, ...]) -> Metric:
    """PSNR, dB, L1, SSIM and MS-SSIM of reconstructions E[x | z] at z = E[z | x].

    All are of images in [0, 1], to which the reconstruction is clamped, against x as
    the model sees it, and are means over images: not the PSNR of a mean error. Images
    that are narrower than three pixels have no SSIM, those narrower than 22 no MS-SSIM.

    Args:
      shape: (height, width, channels) of an image.
    """
    window, scales = ssim_window(shape), ssim_scales(shape)
    quantities = {
        "psnr": Quantity("PSNR of E[x | z], clamped to [0, 1], mean over images", "dB"),
        "l1": Quantity("mean absolute error of the same", "of grey levels in [0, 1]"),
    }
    if window:
        quantities["ssim"] = Quantity(
            f"SSIM of the same, Gaussian window of {window} pixels"
        )
    if scales > 1:
        quantities["ms_ssim"] = Quantity(
            f"multiscale SSIM of the same, {scales} of 5 scales"
        )

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        found = jnp.clip(reconstruct_batch(model, variables, batch), 0, 1)
        x = batch["x"]
        error = {"psnr": peak_signal_to_noise(x, found), "l1": absolute_error(x, found)}
        if not window:
            return error
        single = error | {"ssim": structural_similarity(x, found)}
        if scales < 2:
            return single
        return single | {"ms_ssim": multiscale_similarity(x, found)}

    return averages(quantities, values)


def quality_metrics(model: nn.Module, spec: Spec, values: str) -> Mapping[str, Metric]:
    """PSNR, L1 and SSIM where they mean something: of whole images in grey levels or
    colours, which the model encodes and decodes; else none.

    Args:
      model: what is evaluated.
      spec: the data's description.
      values: what a pixel is, as `Preprocess.values` says.
    """
    of_kind = {"image": image_quality}.get(spec.kind)
    fits = values in GREY and not spec.masked and "seen" not in conditions_of(model)
    if of_kind is None or not fits or not (infers(model) and generates(model)):
        return {}
    return {"quality": of_kind(spec.shape)}


def reconstruct_batch(model: nn.Module, variables: Variables, batch: Batch) -> Array:
    """E[x | z] at z = E[z | x], `[batch, *shape]`."""
    q: Any = model.apply(variables, batch, method="encode")
    px: Any = model.apply(variables, q.mean[None], batch, method="decode")
    return px.mean[0]


def peak_signal_to_noise(x: Images, y: Images) -> Float[Array, " batch"]:
    """10 log10(1 / mean squared error) of each pair of images in [0, 1], dB.

    At most 100, where images are equal.
    """
    error = jnp.square(x - y).mean((1, 2, 3))
    return -10 * jnp.log10(jnp.maximum(error, LEAST_ERROR))


def absolute_error(x: Images, y: Images) -> Float[Array, " batch"]:
    """Mean |x - y| over the pixels and channels of each pair of images (L1)."""
    return jnp.abs(x - y).mean((1, 2, 3))


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
