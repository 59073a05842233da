"""Records of encoded images: small, so that they can be sent to other processes."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Record(NamedTuple):
    """An encoded image, its label, 0 where there are none, and its known factors."""

    content: bytes
    label: int
    factors: tuple[int, ...] = ()


class Records(Protocol):
    """The examples of a split."""

    @property
    def remedy(self) -> str:
        """The way to mend a record that cannot be decoded."""
        ...

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


@dataclasses.dataclass(frozen=True)
class Subset:
    """Some of the records, in an order of their own."""

    records: Records
    rows: np.ndarray

    @property
    def remedy(self) -> str:
        return self.records.remedy

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Sequence[int]) -> list[Record]:
        return self.records.take(self.rows[np.asarray(rows, int)].tolist())

    def where(self, row: int) -> str:
        return self.records.where(int(self.rows[row]))
