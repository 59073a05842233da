"""Perceptual distances: in a classifier's features, or LPIPS by weights a user brings.

For a loss, `perceptual.distance(x, y)` `[batch]`; as a metric, `perceptual_error`.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.data.kinds import require_images
from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric, Quantity, variables_of
from vaejax.metrics.base import averages
from vaejax.metrics.fid import (
    shape_differences,
    weights_digest,
    weights_from_npz,
    weights_from_safetensors,
)
from vaejax.metrics.images import quality_metrics, reconstruct_batch
from vaejax.models import classifies
from vaejax.nn.perceptual import Perceptual
from vaejax.nn.vgg import LEAST_SIDE, STAGES, vgg_maps, vgg_shapes
from vaejax.types import Array, Batch, Key, Variables

BRING_LPIPS = (
    "give a folder with .npz or .safetensors of torchvision's vgg16 (features.0.weight "
    "...) and of the linear layers of LPIPS v0.1 (lin0.model.1.weight ...)"
)
TWO = "--perceptual and --lpips are two losses: give one of them"
READERS = {".npz": weights_from_npz, ".safetensors": weights_from_safetensors}
UNUSED = ("classifier.",)
"""Tensors of torchvision's vgg16 that follow its convolutions."""
LINEAR = "lin{}.model.1.weight"


def open_perceptual(classifier: str, lpips: str, spec: Spec) -> Perceptual | None:
    """The features of `--perceptual RUN` or `--lpips FOLDER`; None where both are
    empty.

    Raises:
      InputError: both are given, or what is given does not fit.
    """
    if classifier and lpips:
        raise InputError(TWO)
    if classifier:
        return classifier_perceptual(Path(classifier), spec)
    return lpips_perceptual(Path(lpips), spec) if lpips else None


class OpenedLater:
    """The distance by `open_perceptual`, opened when it is first used.

    So a trained run can be loaded, sampled and shared where the weights of its loss are
    not. Training opens them before it begins.
    """

    def __init__(self, classifier: str, lpips: str, spec: Spec) -> None:
        if classifier and lpips:
            raise InputError(TWO)
        self._given = (classifier, lpips, spec)
        self._recorded = ""

    @functools.cached_property
    def opened(self) -> Perceptual:
        """The features; InputError where there are none, or others than recorded."""
        with jax.ensure_compile_time_eval():  # a step may be traced meanwhile
            found = open_perceptual(*self._given)
        if found is None:
            raise InputError("--perceptual or --lpips must name weights")
        if self._recorded not in ("", found.digest):
            raise InputError(
                f"{self.setting}: its weights have the digest {found.digest}, and the "
                f"run began with {self._recorded}: give those, or another --workdir"
            )
        return found

    @property
    def setting(self) -> str:
        """The setting as it was given."""
        classifier, lpips, _ = self._given
        return f"--perceptual {classifier}" if classifier else f"--lpips {lpips}"

    @property
    def digest(self) -> str:
        """The recorded digest of the weights, or else theirs, which opens them."""
        return self._recorded or self.opened.digest

    def expect(self, digest: str) -> None:
        """Records the digest: other weights will be refused."""
        self._recorded = digest

    def check(self) -> str:
        """Opens the weights, and returns a line about them."""
        name, digest = self.opened.name, self.opened.digest
        return f"{self.setting}: {name}, weights {digest}, which are not trained"

    def distance(
        self,
        x: Float[Array, "batch height width channels"],
        y: Float[Array, "batch height width channels"],
    ) -> Float[Array, " batch"]:
        """The distance of each pair of images in [0, 1]."""
        return self.opened.distance(x, y)


def classifier_perceptual(path: Path, spec: Spec) -> Perceptual:
    """The features of each layer of a classifier's body, with unit weights.

    Args:
      path: the run of a classifier, of images of the same shape.
      spec: of the data that is to be seen.

    Returns:
      A record called `perceptual_RUN_DATASET`, by the classifier's preset and data.

    Raises:
      InputError: the run is no classifier, or of images of another shape.
    """
    from vaejax.samplers.record import state_digest
    from vaejax.training.workdir import load

    require_images(spec, "--perceptual")
    judge, state = load(path)
    model: Any = judge.model
    if not classifies(model):
        raise InputError(f"--perceptual {path} holds {judge.name}: train a classifier")
    theirs = judge.dataset.spec
    if theirs.shape != spec.shape:
        raise InputError(
            f"--perceptual {path} is of {theirs.name}, whose images are "
            f"{list(theirs.shape)}: those of {spec.name} are {list(spec.shape)}"
        )

    def maps(variables: Any, x: Array) -> tuple[Array, ...]:
        seen: Any = model.apply(variables, method=lambda m: m.classifier(x, {"x": x}))
        return seen.features[1:]

    name = f"perceptual_{judge.name}_{theirs.name}"
    return Perceptual(name, state_digest(state), maps, variables_of(state))


def lpips_perceptual(folder: Path, spec: Spec) -> Perceptual:
    """LPIPS of version 0.1 by VGG16 [Zhang et al. 2018], by weights of a user.

    Grey images are repeated to three channels.

    Args:
      folder: holds .npz or .safetensors with the tensors `features.N.weight` and
        `features.N.bias` of torchvision's vgg16, N = 0, 2, 5, 7, 10, 12, 14, 17, 19,
        21, 24, 26, 28, and `linN.model.1.weight` of LPIPS, N = 0 ... 4, in one file or
        in several.
      spec: of the data that is to be seen.

    Returns:
      A record called `lpips`.

    Raises:
      InputError: the data are no images of one or three channels and at least 16
        pixels, or the folder does not hold these tensors.
    """
    require_images(spec, "--lpips")
    height, width, channels = spec.shape
    if channels not in (1, 3) or min(height, width) < LEAST_SIDE:
        raise InputError(
            f"--lpips sees one or three channels of at least {LEAST_SIDE} pixels: "
            f"those of {spec.name} are {list(spec.shape)}"
        )
    tensors = read_lpips(folder)
    digest = weights_digest(tensors)
    linear = [tensors.pop(LINEAR.format(n)).reshape(-1) for n in range(len(STAGES))]
    # On the device: NumPy's arrays would be written out in every compiled program.
    return Perceptual(
        "lpips",
        digest,
        vgg_maps,
        jax.tree.map(jnp.asarray, tensors),
        tuple(jnp.asarray(each) for each in linear),
    )


def lpips_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of LPIPS by name."""
    linear = {LINEAR.format(n): (1, s[-1], 1, 1) for n, s in enumerate(STAGES)}
    return vgg_shapes() | linear


def read_lpips(folder: Path) -> dict[str, np.ndarray]:
    """The tensors by name, float32; InputError where the folder holds others."""
    if not folder.is_dir():
        raise InputError(f"--lpips {folder}: there is no such folder: {BRING_LPIPS}")
    files = sorted(path for path in folder.iterdir() if path.suffix in READERS)
    if not files:
        raise InputError(f"--lpips {folder} has no weights: {BRING_LPIPS}")
    found: dict[str, np.ndarray] = {}
    for path in files:
        tensors = READERS[path.suffix](path, "--lpips")
        known = {n: a for n, a in tensors.items() if not n.startswith(UNUSED)}
        if twice := sorted(found.keys() & known.keys()):
            raise InputError(f"--lpips {folder} has {twice[0]} in two files: keep one")
        found |= known
    return checked_lpips(found, folder)


def checked_lpips(
    found: Mapping[str, np.ndarray], folder: Path
) -> dict[str, np.ndarray]:
    """The tensors in float32; InputError where names, shapes or numbers are wrong."""
    shapes = {name: array.shape for name, array in found.items()}
    if wrong := shape_differences(shapes, lpips_shapes()):
        raise InputError(f"--lpips {folder} is not LPIPS by VGG16: {wrong}")
    weights = {name: np.asarray(array, np.float32) for name, array in found.items()}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InputError(f"--lpips {folder}: {name} is not finite")
    return weights


def with_perceptual_error(experiment: Experiment, perceptual: Perceptual) -> Experiment:
    """The experiment with one more metric, of its reconstructions.

    Raises:
      InputError: its model does not encode and decode images in grey levels or colours.
    """
    spec, values = experiment.dataset.spec, experiment.preprocess.values
    if not quality_metrics(experiment.model, spec, values):
        raise InputError(
            f"--{perceptual.name} is of reconstructed images in grey levels or colours:"
            f" {experiment.name} on {spec.name} has none"
        )
    more = {perceptual.name: perceptual_error(perceptual)}
    before = experiment.metrics
    return dataclasses.replace(
        experiment, metrics=lambda samples: {**before(samples), **more}
    )


def perceptual_error(perceptual: Perceptual) -> Metric:
    """The mean distance of reconstructions E[x | z] at z = E[z | x], under its name.

    Of images in [0, 1], to which reconstructions are clamped.
    """
    name = perceptual.name
    text = f"{name} of E[x | z], clamped to [0, 1], weights {perceptual.digest[:6]}"

    def values(
        model: nn.Module, variables: Variables, batch: Batch, key: Key
    ) -> dict[str, Array]:
        del key
        found = jnp.clip(reconstruct_batch(model, variables, batch), 0, 1)
        return {name: perceptual.distance(batch["x"], found)}

    return averages({name: Quantity(text)}, values)
