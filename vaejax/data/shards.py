"""Records of encoded images in TFDS's array_record files.

All are small and can be sent to other processes, which open the files for themselves.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vaejax.data.features import OF_FACTOR, Roles
from vaejax.data.quiet import quiet
from vaejax.data.records import Record


class Shards:
    """The records of one split of a prepared TFDS set."""

    remedy = "prepare the set again"

    def __init__(self, folder: Path, split: str, roles: Roles) -> None:
        self._folder, self._split, self._roles = folder, split, roles
        self._source: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None}

    def _opened(self) -> Any:
        if self._source is None:
            skip = (self._roles.x, *self._roles.skip)
            with quiet():
                builder = tfds.builder_from_directory(self._folder)
                self._source = builder.as_data_source(
                    self._split,  # pyright: ignore[reportCallIssue]
                    decoders={name: tfds.decode.SkipDecoding() for name in skip},
                )
        return self._source

    def __len__(self) -> int:
        return len(self._opened())

    def take(self, rows: Sequence[int]) -> list[Record]:
        x, y = self._roles.x, self._roles.y
        factors = [OF_FACTOR + factor.name for factor in self._roles.factors]
        return [
            Record(
                example[x],
                int(example[y]) if y else 0,
                tuple(int(example[name]) for name in factors),
            )
            for example in self._opened().__getitems__(rows)
        ]

    def where(self, row: int) -> str:
        files = files_of(self._opened().dataset_info, self._split)
        starts = list(itertools.accumulate((n for _, n in files), initial=0))
        shard = bisect.bisect_right(starts, row) - 1
        path, number = files[shard][0], row - starts[shard]
        return f"record {row} of split {self._split!r} ({path}, number {number})"


def files_of(info: tfds.core.DatasetInfo, split: str) -> list[tuple[Path, int]]:
    """The files of a split, and how many records each holds."""
    found = info.splits[split].file_instructions
    return [(Path(each.filename), each.examples_in_shard) for each in found]
