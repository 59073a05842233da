"""The FID and the KID: distances in Inception's features, by weights a user brings."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.data.archive import read_arrays
from vaejax.data.kinds import require_images
from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.metrics.inception import FEATURES, SIDE, Inception
from vaejax.metrics.sources import FeatureSource
from vaejax.runtime.memory import check_fits

BRING = (
    "fid needs Inception's weights, which are not part of this package: bring those of "
    "torch-fidelity or pytorch-fid (inception-2015-12-05) by --inception FILE.npz or "
    ".safetensors, tensors under PyTorch's names"
)
NAMES = {
    "fd_inception": "fid",
    "kd_inception": "kid",
    "kd_inception_spread": "kid_spread",
    "rfd_inception": "rfid",
    "rkd_inception": "rkid",
}
CHUNK = 25
"""Images that the network sees at once: its first maps take 3 MB each."""
IGNORED = ("num_batches_tracked",)
HEAD = {"fc.weight": (1008, FEATURES), "fc.bias": (1008,)}
"""The classifier that follows the features: not used, and there only in right files."""


def inception_features(path: Path, spec: Spec) -> FeatureSource:
    """The features of the FID, of uint8 images of one or three channels.

    Grey images are given as three equal channels. All are resized to 299 x 299 as
    TensorFlow 1 does, without a filter, which is what torch-fidelity does; pytorch-fid
    and clean-fid resize in other ways, and give other numbers.

    Args:
      path: .npz or .safetensors with the tensors of torch-fidelity's or pytorch-fid's
        `inception-2015-12-05`.
      spec: of the data.

    Returns:
      A source whose distances are called `fid` and `kid`, those of reconstructions
      `rfid` and `rkid`.

    Raises:
      InputError: the data are no images of one or three channels, or the file does not
        hold these tensors.
    """
    require_images(spec, "--inception")
    if spec.shape[-1] not in (1, 3):
        raise InputError(
            f"--inception sees one or three channels: {spec.name} has {spec.shape[-1]}"
        )
    weights = read_weights(path)
    network: Any = Inception()
    see = parallel.compile_verb(network, "__call__")
    variables = {"params": jax.tree.map(jnp.asarray, weights)}

    def extract(images: np.ndarray) -> np.ndarray:
        return in_chunks(lambda x: see(variables, x), in_colour(images))

    return FeatureSource("inception", extract, weights_digest(weights), NAMES)


def in_colour(images: np.ndarray) -> np.ndarray:
    """Images of three channels, equal ones where there is one."""
    return np.broadcast_to(images, (*images.shape[:3], 3))


def in_chunks(see: Callable[[np.ndarray], jax.Array], images: np.ndarray) -> np.ndarray:
    """What `see` makes of `CHUNK` images at a time, the last ones filled up: one shape
    is compiled once.
    """
    count = len(images)
    rows = np.arange(count + -count % CHUNK) % count
    parts = [
        np.asarray(see(images[rows[start : start + CHUNK]]))
        for start in range(0, count, CHUNK)
    ]
    return np.concatenate(parts)[:count]


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The network's tensors by name; InputError where the file does not hold them."""
    readers = {".npz": weights_from_npz, ".safetensors": weights_from_safetensors}
    if path.suffix not in readers:
        raise InputError(
            f"--inception {path}: give an .npz or .safetensors; a .pth is a pickle, "
            "which is not opened: save the tensors of "
            "torch.load(FILE, weights_only=True) by numpy.savez or safetensors"
        )
    if not path.is_file():
        raise InputError(f"--inception {path}: there is no such file: {BRING}")
    return checked_weights(readers[path.suffix](path), path)


def weights_from_npz(path: Path, option: str = "--inception") -> dict[str, np.ndarray]:
    """All arrays of an .npz file."""
    try:
        return read_arrays(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{option} {path} is no .npz of arrays ({error})") from None


def weights_from_safetensors(
    path: Path, option: str = "--inception"
) -> dict[str, np.ndarray]:
    """All tensors of a .safetensors file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_fits(path.stat().st_size, f"the tensors of {path}", "close other programs")
    try:
        return load_file(path)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise InputError(f"{option} {path} is no safetensors ({error})") from None


def checked_weights(
    found: Mapping[str, np.ndarray], path: Path
) -> dict[str, np.ndarray]:
    """The tensors that the network has, float32; InputError where they are others."""
    known = {n: a for n, a in found.items() if not n.endswith(IGNORED)}
    shapes = {n: a.shape for n, a in known.items()}
    if wrong := shape_differences(shapes, expected_shapes()):
        raise InputError(
            f"--inception {path} is not the network of the FID: {wrong}; torchvision's "
            "inception_v3 is another"
        )
    weights = {n: np.asarray(a, np.float32) for n, a in known.items() if n not in HEAD}
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InputError(f"--inception {path}: {name} is not finite")
    return weights


def shape_differences(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> str:
    """How the shapes of a file's tensors differ from the network's; empty if not."""
    more = sorted(shapes.keys() - wanted.keys())
    lacking = sorted(wanted.keys() - shapes.keys())
    lacking += [
        f"{name} {list(shape)}, not {list(shapes[name])}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    words = [f"it lacks {'; '.join(lacking[:2])}"] if lacking else []
    words += [f"it has {'; '.join(more[:2])}, too"] if more else []
    return " and ".join(words)


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of the network, by PyTorch's names."""
    blank = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.uint8)
    shapes = jax.eval_shape(Inception().init, jax.random.key(0), blank)["params"]
    return {name: leaf.shape for name, leaf in shapes.items()} | HEAD


def weights_digest(weights: Mapping[str, np.ndarray]) -> str:
    """blake2b of all tensors in the order of their names, 16 hexadecimal digits: the
    same for a file of either kind.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
