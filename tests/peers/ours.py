"""Writes what vaejax makes of fixed inputs: python tests/peers/ours.py FOLDER

`make test-peers` runs it in vaejax's own environment. The peers, whose environment has
no vaejax, then read inputs and results: `inputs.npz`, `ours.npz`, `inception.npz` and
`lpips/lpips.npz` with random weights of the networks of the FID and of LPIPS, and what
`ours_maps.py` writes.
"""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from ours_maps import write_autoencoders

from vaejax import from_arrays
from vaejax.metrics import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    multiscale_similarity,
    peak_signal_to_noise,
    precision_recall,
    structural_similarity,
)
from vaejax.metrics.fid import expected_shapes, inception_features
from vaejax.metrics.inception import SIDE, resized
from vaejax.metrics.perceptual import lpips_perceptual, lpips_shapes

SETS = ("near", "far", "narrow")


def inputs() -> dict[str, np.ndarray]:
    """Sets of features, pairs of images in [0, 1], and uint8 images of two sizes."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(16, 16))
    real = rng.normal(size=(600, 16)) @ mixing
    grey, colour = rng.random((4, 28, 28, 1)), rng.random((4, 40, 31, 3))
    smooth = np.cumsum(np.cumsum(colour - 0.5, 1), 2) / 40 + 0.5
    found = {
        "real": real,
        "near": rng.normal(size=(600, 16)) @ mixing,
        "far": rng.normal(0.5, 1.3, size=(600, 16)) @ mixing,
        "narrow": rng.normal(0, 0.6, size=(600, 16)) @ mixing,
    }
    wide = np.cumsum(rng.normal(size=(2, 176, 180, 1)), 1) / 30 + 0.5
    smooth, wide = np.clip(smooth, 0, 1), np.clip(wide, 0, 1)
    for name, x in {"grey": grey, "colour": smooth, "wide": wide}.items():
        noisy = np.clip(x + rng.normal(0, 0.08, x.shape), 0, 1)
        found |= {name: np.float32(x), f"{name}_noisy": np.float32(noisy)}
    found["small"] = rng.integers(0, 256, (3, 32, 28, 3), dtype=np.uint8)
    found["large"] = rng.integers(0, 256, (2, 310, 420, 3), dtype=np.uint8)
    return found


def weights() -> dict[str, np.ndarray]:
    """Random weights of Inception that keep the size of its maps."""
    rng = np.random.default_rng(1)

    def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("conv.weight"):
            return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        if name.endswith(("bn.weight", "running_var")):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, 0.1, shape)

    return {n: np.float32(drawn(n, s)) for n, s in expected_shapes().items()}


def lpips_weights() -> dict[str, np.ndarray]:
    """Random weights of LPIPS that keep the size of VGG16's maps."""
    rng = np.random.default_rng(2)

    def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.startswith("lin"):
            return rng.random(shape)
        spread = 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[1:]))
        return rng.normal(0, spread, shape)

    return {n: np.float32(drawn(n, s)) for n, s in lpips_shapes().items()}


def results(given: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """All that is compared, by name."""
    found = {}
    for name in SETS:
        real, other = given["real"], given[name]
        found[f"fd_{name}"] = frechet_distance(real, other)
        found[f"kd_{name}"] = kernel_distance(real, other, subsets=1).value
        for k in (3, 5):
            found[f"pr_{name}_{k}"] = precision_recall(real, other, k=k)
            found[f"dc_{name}_{k}"] = density_coverage(real, other, k=k)
    for name in ("grey", "colour", "wide"):
        x, y = jnp.asarray(given[name]), jnp.asarray(given[f"{name}_noisy"])
        found[f"psnr_{name}"] = peak_signal_to_noise(x, y)
        found[f"ssim_{name}"] = structural_similarity(x, y)
        found[f"ms_ssim_{name}"] = multiscale_similarity(x, y)
    for name in ("small", "large"):
        images = given[name]
        spec = from_arrays(images, x_test=images).spec
        found[f"resized_{name}"] = resized(jnp.asarray(images), SIDE)
        found[f"inception_{name}"] = inception_features(path, spec).extract(images)
    for name in ("grey", "colour"):
        x, y = jnp.asarray(given[name]), jnp.asarray(given[f"{name}_noisy"])
        spec = from_arrays(np.uint8(255 * given[name]), x_test=np.uint8(x)).spec
        found[f"lpips_{name}"] = lpips_perceptual(path.parent / "lpips", spec).distance(
            x, y
        )
    return {name: np.asarray(value) for name, value in found.items()}


def main(folder: Path) -> None:
    """Writes the files."""
    given, path = inputs(), folder / "inception.npz"
    np.savez(path, **weights())
    (folder / "lpips").mkdir(exist_ok=True)
    np.savez(folder / "lpips" / "lpips.npz", **lpips_weights())
    np.savez(folder / "inputs.npz", **given)
    np.savez(folder / "ours.npz", **results(given, path))
    write_autoencoders(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
