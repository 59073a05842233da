"""Parameters as safetensors: names, shapes and numbers, and never code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaejax.errors import InputError
from vaejax.experiment import TrainState, variables_of
from vaejax.sharing.manifest import missing_or_unexpected
from vaejax.training.older import filled, older_structure

DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
"""NumPy's name of each type of safetensors."""


def write_tensors(state: TrainState, path: Path) -> None:
    """Writes the variables in use: averaged parameters, if any, and statistics.

    Names are paths of parts, as in `params/encoder/Dense_0/kernel`.
    """
    from safetensors.numpy import save_file

    leaves, _ = jax.tree_util.tree_flatten_with_path(variables_of(state))
    # A view that is not contiguous would be written in the order of its memory.
    arrays = {name_of(at): np.asarray(leaf, order="C") for at, leaf in leaves}
    save_file(arrays, path)


def read_tensors(path: Path, abstract: TrainState, step: int) -> TrainState:
    """The state of these variables, placed like `abstract`, without an optimizer.

    Names, shapes and types are compared with the model's before anything is read.

    Raises:
      InputError: the file is no safetensors file, or is of another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            there = {name: kind_in(file.get_slice(name)) for name in names}
            wanted = older_structure(dict.fromkeys(map(keys_of, there)), abstract)
            wanted, whole = variables_of(wanted), variables_of(abstract)
            check_kinds(there, wanted, path)
            variables = jax.tree_util.tree_map_with_path(
                lambda at, leaf: placed_like(file.get_tensor(name_of(at)), leaf), wanted
            )
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error}): get the folder again"
        ) from None
    variables = filled(variables, whole)
    params = variables.pop("params")
    number = placed_like(np.asarray(step, abstract.step.dtype), abstract.step)
    return TrainState(number, params, variables, opt_state={}, ema={})


def check_kinds(there: Mapping[str, str], wanted: Any, path: Path) -> None:
    """InputError where names, shapes or types are not those of the model."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(wanted)
    kinds = {name_of(at): f"{leaf.dtype}{list(leaf.shape)}" for at, leaf in leaves}
    if lacking := missing_or_unexpected(kinds, there):
        raise InputError(f"{path} holds another model's tensors: {lacking}")
    for name, kind in kinds.items():
        if there[name] != kind:
            raise InputError(
                f"{path} holds another model: {name} is {there[name]} there and {kind} "
                "in config.json"
            )


def kind_in(view: Any) -> str:
    """`dtype[shape]` of a tensor that is not read yet."""
    kind = view.get_dtype()
    return f"{DTYPES.get(kind, kind)}{list(view.get_shape())}"


def placed_like(array: np.ndarray, like: Any) -> jax.Array:
    """The array where `like` says that it lives."""
    return jax.make_array_from_callback(array.shape, like.sharding, array.__getitem__)


def name_of(path: Any) -> str:
    """The path of a part: keys and slashes."""
    return "/".join(str(entry.key) for entry in path)


def keys_of(name: str) -> str:
    """A name as the keys that lead to it, as checkpoints write them."""
    return "".join(f"['{key}']" for key in name.split("/"))
