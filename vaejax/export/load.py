"""Runs an exported model: needs jax, numpy and flatbuffers, and no vaejax.

A copy of this file lies in the folder of every export:

    from load import load
    model = load("FOLDER")
    q = model["encode"](x)
    x = model["sample"](jax.random.key(0), np.zeros(16, np.int32))
    model["sample"].arguments  # names, shapes and types; units are in export.json

Batches may be of any size; a function compiles once for each. Digests tell damaged
files, not forged ones: run exports of those you trust.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

FORMAT = 1


class Function:
    """One function of the model, with its parameters."""

    def __init__(self, record: Mapping[str, Any], call: Any, parameters: Any) -> None:
        self.arguments, self.results = record["arguments"], record["results"]
        self.__doc__ = record["says"]
        self._call, self._parameters = jax.jit(call), parameters

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Arguments in their order or by name; keys typed or as raw data."""
        names = [each["name"] for each in self.arguments]
        values = dict(zip(names, given, strict=False)) | named
        if len(given) + len(named) != len(names) or set(values) != set(names):
            raise TypeError(f"the arguments are {', '.join(names)}")
        converted = [
            _array(values[each["name"]], each["dtype"]) for each in self.arguments
        ]
        return self._call(self._parameters, *converted)


def load(folder: Any) -> dict[str, Function]:
    """The functions of an export by name; ValueError where a file is not as written."""
    place = Path(folder)
    manifest = json.loads((place / "export.json").read_text("utf-8"))
    if manifest["format"] > FORMAT:
        raise ValueError(f"{place} was exported by a newer vaejax: use its own load.py")
    path = _checked(place, manifest["parameters"])
    with np.load(path, allow_pickle=False) as file:
        parameters = {name: jax.numpy.asarray(file[name]) for name in file.files}
    functions = {}
    for name, record in manifest["functions"].items():
        data = bytearray(_checked(place, record).read_bytes())
        exported = jax.export.deserialize(data)
        functions[name] = Function(record, exported.call, parameters)
    return functions


def digest(path: Path) -> str:
    """blake2b of a file, as hexadecimal digits."""
    return hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()


def _checked(place: Path, record: Mapping[str, Any]) -> Path:
    path = place / record["file"]
    if not path.is_file():
        raise ValueError(f"{path} is missing: export the model again")
    if digest(path) != record["blake2b"]:
        raise ValueError(f"{path} is damaged: export the model again")
    return path


def _array(value: Any, dtype: str) -> Any:
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(
        value.dtype, jax.dtypes.prng_key
    ):
        value = jax.random.key_data(value)
    return jax.numpy.asarray(value, dtype)
