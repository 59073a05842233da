"""Weights of diffusers' autoencoders, read and written without it or PyTorch.

Its folders hold `config.json` and `diffusion_pytorch_model.safetensors`: settings and
numbers, and no code. Our parts have diffusers' names, so a name goes over by a rule:
`encoder/down_blocks_0/resnets_1/conv1/kernel` is
`encoder.down_blocks.0.resnets.1.conv1.weight`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.errors import InputError
from vaejax.runtime.memory import check_fits
from vaejax.runtime.storage import whole_folder
from vaejax.sharing.diffusers_config import (
    CONFIG,
    Autoencoder,
    Config,
    config_json,
    read_diffusers_config,
)
from vaejax.sharing.manifest import missing_or_unexpected
from vaejax.sharing.tensors import name_of
from vaejax.training.workdir import write_json
from vaejax.types import Array, Variables

WEIGHTS = "diffusion_pytorch_model.safetensors"
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "embedding": "embedding.weight",
}
"""PyTorch's names of a layer's parameters, by ours."""
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Parts of attention as files of before 2023 call them, and as they are called now."""
FLOATS = ("F64", "F32", "F16", "BF16")


class DiffusersAutoencoder(NamedTuple):
    """An autoencoder as diffusers stores it.

    Images are in [-1, 1]. `module.apply(variables, x, method="encode")` gives latents
    `[batch, h, w, channels]`, the posterior's means or vectors of the codebook, which
    `method="decode"` turns into images; `posterior` gives q(z | x) where there is one,
    `codes_of` and `values_of` codes.
    """

    config: Config
    """The settings of its `config.json`."""
    module: Autoencoder
    variables: Variables
    """`{"params": ...}`, float32."""

    @property
    def scaling_factor(self) -> float:
        """The number that diffusion models multiply latents by."""
        return self.config.scaling_factor

    @property
    def shift_factor(self) -> float | None:
        """The number that diffusion models subtract first; None is 0."""
        return getattr(self.config, "shift_factor", None)

    def scaled(self, z: Array) -> Array:
        """Latents as diffusion models take them: (z - shift) * scaling_factor.

        Where the configuration has means and deviations of channels, as that of
        Playground's model, they are (z - mean) * scaling_factor / deviation.
        """
        shift, scale = self._affine(z)
        return (z - shift) * scale

    def unscaled(self, z: Array) -> Array:
        """The inverse of `scaled`: what `decode` takes."""
        shift, scale = self._affine(z)
        return z / scale + shift

    @property
    def of_channels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Shift and factor of each channel of latents, as `scaled` takes them."""
        numbers = self._affine(jnp.zeros(self.config.latent_channels))
        shift, factor = (tuple(np.asarray(each).tolist()) for each in numbers)
        return shift, factor

    def _affine(self, z: Array) -> tuple[Array, Array]:
        shift, scale = self.shift_factor or 0.0, self.scaling_factor
        mean = getattr(self.config, "latents_mean", None)
        deviation = getattr(self.config, "latents_std", None)
        if mean and deviation:
            shift, scale = np.float32(mean), scale / np.float32(deviation)
        return jnp.broadcast_to(shift, z.shape), jnp.broadcast_to(scale, z.shape)


def from_diffusers(folder: str | os.PathLike[str]) -> DiffusersAutoencoder:
    """Reads an autoencoder that diffusers' `save_pretrained` wrote.

    Weights of any precision become float32. Nothing of the folder is run: pickles,
    `.bin` and `.ckpt`, are not opened.

    Args:
      folder: with `config.json`, of an `AutoencoderKL` or a `VQModel`, and
        `diffusion_pytorch_model.safetensors`; of a pipeline its subfolder `vae`.

    Returns:
      The module, its variables, and the configuration with the scaling factor.

    Raises:
      InputError: a file is missing or is not what it must be; the class or a setting is
        of another network; tensors are missing, unexpected, or of other shapes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"{folder} is no folder of this machine: download the autoencoder, its "
            f"{CONFIG} and {WEIGHTS}, and give their folder"
        )
    config = read_diffusers_config(folder / CONFIG)
    weights = weights_file(folder)
    module = config.autoencoder()
    abstract = abstract_params(module, config)
    return DiffusersAutoencoder(
        config, module, {"params": read_foreign(weights, abstract)}
    )


def weights_file(folder: Path) -> Path:
    """The file of the weights; InputError where there is none, or another kind."""
    path = folder / WEIGHTS
    if path.is_file():
        return path
    names = {each.name for each in folder.iterdir()}
    there = f"{folder} has no {WEIGHTS}"
    if f"{WEIGHTS}.index.json" in names:
        raise InputError(
            f"{there}, but parts of it: write it whole, by save_pretrained with "
            "max_shard_size='10GB'"
        )
    variants = sorted(n for n in names if n.endswith(".safetensors"))
    if variants:
        raise InputError(f"{there}, but {variants[0]}: rename that file if it is meant")
    pickles = sorted(n for n in names if n.endswith((".bin", ".ckpt", ".pt", ".pth")))
    if pickles:
        raise InputError(
            f"{there}, but {pickles[0]}, a pickle, which is not opened: write the "
            "folder by save_pretrained with safe_serialization=True"
        )
    raise InputError(f"{there}: copy it there")


def abstract_params(module: Autoencoder, config: Config) -> Any:
    """Shapes of the parameters, as the module has them."""
    side = module.encoder.sizes.factor
    image = jnp.zeros((1, side, side, config.in_channels))
    return jax.eval_shape(module.init, jax.random.key(0), image)["params"]


def foreign_name(path: Any) -> str:
    """diffusers' name of a parameter."""
    part, _, leaf = name_of(path).rpartition("/")
    # Both 1x1 convolutions are ours of the bodies, and there of the whole.
    part = re.sub(r"^(encoder|decoder)/(?=(post_)?quant_conv$)", "", part)
    part = re.sub(r"_(\d+)(?=/|$)", r".\1", part).replace("/", ".")
    return f"{part}.{LEAVES.get(leaf, leaf)}"


def foreign_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of a parameter: outputs first, then inputs."""
    return tuple(shape[axis] for axis in foreign_axes(name, len(shape)))


def foreign_axes(name: str, axes: int) -> tuple[int, ...]:
    """The order of our axes there: kernels are turned, vectors of codes are not."""
    if axes == 4:
        return (3, 2, 0, 1)
    return (1, 0) if axes == 2 and not name.startswith("quantize.") else (*range(axes),)


def read_foreign(path: Path, abstract: Any) -> Any:
    """Parameters like `abstract`, of a file with diffusers' names and shapes.

    All names and shapes are compared before anything is read. InputError.
    """
    from safetensors import SafetensorError, safe_open

    check_fits(
        2 * path.stat().st_size, f"the weights of {path}", "close other programs"
    )
    try:
        with safe_open(path, framework="numpy") as file:
            by_name = {current_name(name): name for name in file.keys()}  # noqa: SIM118
            views = {n: file.get_slice(old) for n, old in by_name.items()}
            check_foreign(views, abstract, path)
            return jax.tree_util.tree_map_with_path(
                lambda at, _: turned(
                    file.get_tensor(by_name[foreign_name(at)]), foreign_name(at), path
                ),
                abstract,
            )
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}): get it again"
        ) from None


def current_name(name: str) -> str:
    """A tensor's name as diffusers has it today."""
    old = "|".join(OLD_NAMES)
    return re.sub(
        rf"(\.attentions\.\d+\.)({old})(?=\.)",
        lambda found: found[1] + OLD_NAMES[found[2]],
        name,
    )


def check_foreign(views: Mapping[str, Any], abstract: Any, path: Path) -> None:
    """InputError where names, shapes or types are not those of the configuration."""
    wanted = dict(foreign_shapes(abstract))
    if lacking := missing_or_unexpected(wanted, views):
        raise InputError(
            f"{path} is not what its {CONFIG} describes: {lacking}; get both files "
            "from one place"
        )
    for name, shape in wanted.items():
        there, kind = tuple(views[name].get_shape()), views[name].get_dtype()
        if there != shape or kind not in FLOATS:
            raise InputError(
                f"{path} is not what its {CONFIG} describes: {name} is {kind}"
                f"{list(there)} and must be of floats {list(shape)}"
            )


def foreign_shapes(tree: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """diffusers' name and shape of each parameter."""
    for at, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = foreign_name(at)
        yield name, foreign_shape(name, leaf.shape)


def turned(tensor: np.ndarray, name: str, path: Path) -> jax.Array:
    """A tensor as our float32 parameter; InputError where it is not finite."""
    array = np.asarray(tensor, np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{path} has numbers in {name} that are not finite")
    order = np.argsort(foreign_axes(name, array.ndim))
    return jnp.asarray(array.transpose(order))


def to_diffusers(
    folder: str | os.PathLike[str], autoencoder: DiffusersAutoencoder
) -> None:
    """Writes an autoencoder so that diffusers' `from_pretrained` reads it.

    Args:
      folder: one that is empty or not there.
      autoencoder: what `from_diffusers` gave, or networks that were trained here and
        what `diffusers_config_of` makes of them, the scaling factor included.

    Raises:
      InputError: the folder is not empty; the variables are not those that the
        configuration describes.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: give a folder that is empty or not there")
    config, params = autoencoder.config, autoencoder.variables["params"]
    wanted = dict(foreign_shapes(abstract_params(config.autoencoder(), config)))
    arrays = dict(foreign_arrays(params))
    if wanted != {name: array.shape for name, array in arrays.items()}:
        lacking = missing_or_unexpected(wanted, arrays) or "other shapes"
        raise InputError(f"the variables are not what the config describes: {lacking}")
    with whole_folder(folder) as made:
        write_json(made / CONFIG, config_json(config))
        save_file(arrays, made / WEIGHTS, metadata={"format": "pt"})


def foreign_arrays(params: Any) -> Iterator[tuple[str, np.ndarray]]:
    """diffusers' name of each parameter, and its numbers in PyTorch's order."""
    for at, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = foreign_name(at)
        array = np.asarray(leaf, np.float32)
        # A view that is not contiguous would be written in the order of its memory.
        yield name, np.ascontiguousarray(array.transpose(foreign_axes(name, leaf.ndim)))
