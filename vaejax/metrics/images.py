"""How close reconstructed images are to theirs, in grey levels: PSNR, L1, SSIM."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.data.spec import Spec
from vaejax.experiment import Metric, Quantity
from vaejax.metrics.base import averages
from vaejax.models import conditions_of, generates, infers
from vaejax.nn.similarity import (
    Images,
    multiscale_similarity,
    ssim_scales,
    ssim_window,
    structural_similarity,
)
from vaejax.types import Array, Batch, Key, Variables

LEAST_ERROR = 1e-10
"""The mean squared error that a PSNR of 100 dB has: none is said to be higher."""
GREY = ("grey", "dequantized")
"""Pixels that are grey levels or colours, and no bits."""


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
