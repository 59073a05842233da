"""Making TFDS prepare a set that is not on disk yet."""

import contextlib
import difflib
import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from vaejax.data.builders import VERSIONS
from vaejax.data.features import choose_features
from vaejax.data.grids import GRIDS, chosen_values
from vaejax.data.places import Address, publish, roots, writable
from vaejax.data.quiet import one_line, quiet
from vaejax.data.reading import Reading
from vaejax.errors import InputError
from vaejax.runtime.lock import scratch

_SLOW = 20_000
_ELSEWHERE = "set TFDS_DATA_DIR to where it is prepared already, as array_record"


def prepare(address: Address, reading: Reading = Reading()) -> Path:
    """Prepares a set as array_record and returns its folder.

    Ours come from installed packages; any other is downloaded, by TensorFlow.
    InputError where the name is unknown, TensorFlow is missing or the download fails.
    """
    root = next((root for root in roots() if writable(root)), None)
    if root is None:
        raise InputError(f"{roots()[0]} cannot be written: set TFDS_DATA_DIR")
    if address.name in VERSIONS:
        if address.name in GRIDS:
            values = chosen_values(address.name, address.config or "")
            count = math.prod(map(len, values))
            if count >= _SLOW:
                print(f"Drawing {count:,} of {address}, once ...", file=sys.stderr)
        return _prepare(address, root, reading)
    _check_known(address)
    if not has_tensorflow():
        raise InputError(
            f"preparing '{address}' needs TensorFlow: pip install 'vaejax[prepare]'; "
            f"or {_ELSEWHERE}"
        )
    print(f"Downloading and preparing {address} in {root} ...", file=sys.stderr)
    return _prepare(address, root, reading)


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None


def _prepare(address: Address, root: Path, reading: Reading) -> Path:
    """Prepares in a folder of its own, so that processes may do so at once."""
    home = root / address.name
    with _plainly(str(address)), quiet(), scratch(home) as made:
        if ours := address.name in VERSIONS:  # the import registers the builder
            importlib.import_module(f"vaejax.data.builders.{address.name}")
        builder = builder_of(address, made)
        choose_features(
            builder.info.features, str(address), reading
        )  # before any download
        _download(builder, (made if ours else root) / "downloads")
        inside = Path(builder.data_dir).relative_to(made)
        (root / inside).parent.mkdir(parents=True, exist_ok=True)
        publish(made / inside, root / inside)
        if (made / address.name / ".config").exists():
            publish(made / address.name / ".config", home / ".config")
    return root / inside


def builder_of(address: Address, data_dir: Path) -> tfds.core.DatasetBuilder:
    """TFDS's builder of a set; a subset of a grid of ours is a config of its own."""
    how: dict[str, Any] = {"data_dir": data_dir, "file_format": "array_record"}
    if address.name in GRIDS and address.config:
        from vaejax.data.builders._grid import grid_config

        config = grid_config(address.config)
        return tfds.builder(address.name, config=config, **how)
    return tfds.builder(str(address), **how)


def _download(builder: tfds.core.DatasetBuilder, downloads: Path) -> None:
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_dir=downloads, download_config=config)


@contextlib.contextmanager
def _plainly(name: str) -> Iterator[None]:
    """One line for whatever goes wrong: no network, no disk, no such version."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"preparing {name!r} failed ({one_line(error)}): mend that or {_ELSEWHERE}"
        ) from error


def _check_known(address: Address) -> None:
    with quiet():
        known = {*VERSIONS, *_registered()}
    if address.name in known:
        return
    near = difflib.get_close_matches(address.name, sorted(known), n=4)
    ours = ", ".join(VERSIONS)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {ours}"
    raise InputError(
        f"there is no data set {address.name!r}: {hint} (any TFDS name, or npz:PATH)"
    )


def _registered() -> list[str]:
    # TFDS stops registering at the first of its packages that needs TensorFlow, so the
    # one with tables is asked for by name.
    with contextlib.suppress(ImportError):
        importlib.import_module("tensorflow_datasets.structured")
    return registered.list_imported_builders()
