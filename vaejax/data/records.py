"""Records of encoded images, and those of TFDS's array_record files.

All are small and can be sent to other processes, which open the files for themselves.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow_datasets as tfds

from vaejax.data.features import Roles
from vaejax.data.quiet import quiet


class Record(NamedTuple):
    """An encoded image and its label, 0 where there are none."""

    content: bytes
    label: int


class Records(Protocol):
    """The examples of a split."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int]) -> list[Record]:
        """The records at these places.

        Files hold their records in compressed groups, of which a single record costs as
        much as many: five times its share of a batch.
        """
        ...

    def where(self, row: int) -> str:
        """Split, number and file of a record."""
        ...


class Shards:
    """The records of one split of a prepared TFDS set."""

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
        return [
            Record(example[x], int(example[y]) if y else 0)
            for example in self._opened().__getitems__(rows)
        ]

    def where(self, row: int) -> str:
        files = files_of(self._opened().dataset_info, self._split)
        starts = list(itertools.accumulate((n for _, n in files), initial=0))
        shard = bisect.bisect_right(starts, row) - 1
        path, number = files[shard][0], row - starts[shard]
        return f"record {row} of split {self._split!r} ({path}, number {number})"


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the records, in an order of their own."""

    records: Records
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Sequence[int]) -> list[Record]:
        return self.records.take(self.rows[np.asarray(rows, int)].tolist())

    def where(self, row: int) -> str:
        return self.records.where(int(self.rows[row]))


def files_of(info: tfds.core.DatasetInfo, split: str) -> list[tuple[Path, int]]:
    """The files of a split, and how many records each holds."""
    found = info.splits[split].file_instructions
    return [(Path(each.filename), each.examples_in_shard) for each in found]
