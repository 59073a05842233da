"""Folders of latents: a manifest, and shards that are whole or absent.

`manifest.json` says what encoded, how, and which shards there will be. A shard is an
`.npz` with `x` `[n, *shape]` and, of data with labels, `y` `[n]`; or an `.array_record`
of examples: the label as int32, where there is one, then x in C order, both in the
order of bytes of x86. No shard is pickled, and none is read before its size is known.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vaejax.apply.rows import write_npz
from vaejax.data.archive import read_arrays
from vaejax.data.dataset import Arrays
from vaejax.data.spec import FirstStage, Spec
from vaejax.data.stored import read_as, read_record
from vaejax.errors import InputError
from vaejax.nn.layers import PrecisionName
from vaejax.runtime.jsonlines import parsed
from vaejax.runtime.limits import check_count
from vaejax.runtime.storage import SCRATCH, write_whole
from vaejax.stages.encoding import EncodedLatents

MANIFEST = "manifest.json"
FORMAT = 1
FormatName = Literal["npz", "array_record"]


class Scaling(NamedTuple):
    """The numbers that diffusion models of an autoencoder's latents take off and
    multiply by: scaled = (z - shift) * factor, of each channel or all.
    """

    factor: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    applied: bool = False
    """Whether the latents in the shards are scaled."""

    def scaled(self, z: np.ndarray) -> np.ndarray:
        """Latents as the shards have them."""
        if not self.applied:
            return z
        return (z - np.array(self.shift, z.dtype)) * np.array(self.factor, z.dtype)

    def unscaled(self, z: np.ndarray) -> np.ndarray:
        """The inverse: as the first stage decodes them."""
        if not self.applied:
            return z
        return z / np.array(self.factor, z.dtype) + np.array(self.shift, z.dtype)


class LatentsManifest(NamedTuple):
    """The content of `manifest.json`."""

    format: int
    first: FirstStage
    latents: EncodedLatents
    scaling: Scaling
    source: Spec
    """The data that were encoded."""
    shards: FormatName
    """The format of the shards."""
    shard_rows: int
    """Examples of a shard, the last one of a split aside."""
    batch_size: int
    """Examples that were encoded at a time."""
    precision: PrecisionName
    """That of the hidden layers that encoded."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {
            "format": self.format,
            "first": self.first._asdict(),
            "latents": self.latents._asdict(),
            "scaling": self.scaling._asdict(),
            "source": self.source.to_json(),
            "shards": self.shards,
            "shard_rows": self.shard_rows,
            "batch_size": self.batch_size,
            "precision": self.precision,
        }

    def names(self, split: str) -> Iterator[tuple[str, range]]:
        """The file of each shard of a split, and the rows that it holds."""
        size = self.source.sizes[split]
        count = -(-size // self.shard_rows)
        for number in range(count):
            start = number * self.shard_rows
            name = f"{split}-{number:05d}-of-{count:05d}.{self.shards}"
            yield name, range(start, min(start + self.shard_rows, size))


def is_latents_folder(folder: Path) -> bool:
    """Whether it holds a manifest of latents."""
    return (folder / MANIFEST).is_file() and not (folder / "config.json").exists()


def read_latents_manifest(folder: Path) -> LatentsManifest:
    """The manifest of a folder; InputError where it is none."""
    path = folder / MANIFEST
    try:
        content = parsed(path.read_bytes())
    except ValueError:
        raise InputError(f"{path} is not JSON: it is damaged") from None
    if not isinstance(content, dict) or "latents" not in content:
        raise InputError(f"{path} is no manifest of latents")
    if read_as(int, content.get("format"), "format") > FORMAT:
        raise InputError(f"{path} was written by a newer vaejax: upgrade it")
    found = LatentsManifest(
        format=FORMAT,
        first=read_record(FirstStage, content.get("first"), "first"),
        latents=read_record(EncodedLatents, content.get("latents"), "latents"),
        scaling=read_record(Scaling, content.get("scaling"), "scaling"),
        source=Spec.from_json(content.get("source", {})),
        shards=read_as(FormatName, content.get("shards"), "shards"),
        shard_rows=read_as(int, content.get("shard_rows"), "shard_rows"),
        batch_size=read_as(int, content.get("batch_size"), "batch_size"),
        # Folders from before it was a setting are of float32.
        precision=read_as(PrecisionName, content.get("precision", "f32"), "precision"),
    )
    check_count("shard_rows", found.shard_rows, 1)
    return found


def write_manifest(folder: Path, manifest: LatentsManifest) -> None:
    """Writes the manifest whole."""
    write_whole(folder / MANIFEST, json.dumps(manifest.to_json(), indent=2) + "\n")


def write_shard(path: Path, arrays: Arrays) -> None:
    """Writes a shard whole or not at all."""
    if path.suffix == ".npz":
        write_npz(path, arrays)
        return
    from array_record.python.array_record_module import ArrayRecordWriter

    scratch = path.with_name(f"{SCRATCH}{secrets.token_hex(8)}.tmp")
    try:
        writer = ArrayRecordWriter(str(scratch), "group_size:64")
        for row in range(len(arrays["x"])):
            label = arrays["y"][row].astype("<i4").tobytes() if "y" in arrays else b""
            x = arrays["x"][row]
            writer.write(label + x.astype(x.dtype.newbyteorder("<")).tobytes())
        writer.close()
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def read_shard(path: Path, manifest: LatentsManifest, rows: int) -> Arrays:
    """The arrays of a shard; InputError where it is missing or damaged."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing: run the same encode.py again, which writes what is "
            "not there yet"
        )
    damaged = f"{path} is damaged: delete it, and run the same encode.py again"
    read = read_npz_shard if manifest.shards == "npz" else read_records
    try:
        arrays = read(path, manifest)
    except InputError:
        raise
    except Exception:  # whatever a library finds in a file that is none
        raise InputError(damaged) from None
    x = arrays.get("x", np.zeros(0))
    if x.shape != (rows, *manifest.latents.shape):
        raise InputError(damaged)
    return arrays


def read_npz_shard(path: Path, manifest: LatentsManifest) -> Arrays:
    """The arrays of an `.npz`."""
    del manifest  # the file says itself what is in it
    return read_arrays(path)


def read_records(path: Path, manifest: LatentsManifest) -> Arrays:
    """The arrays of an `.array_record`."""
    from array_record.python.array_record_module import ArrayRecordReader

    latents, labelled = manifest.latents, bool(manifest.source.classes)
    reader = ArrayRecordReader(str(path))
    records = reader.read_all()
    reader.close()
    skip = 4 if labelled else 0
    each = math.prod(latents.shape) * 4 + skip
    content = np.frombuffer(b"".join(records), np.uint8).reshape(-1, each)
    dtype = np.dtype(latents.dtype).newbyteorder("<")
    x = content[:, skip:].copy().view(dtype).reshape(-1, *latents.shape)
    found = {"x": x.astype(latents.dtype)}
    y = content[:, :4].copy().view("<i4")[:, 0]
    return found | ({"y": y.astype(np.int32)} if labelled else {})
