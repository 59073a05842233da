"""Examples of images that are decoded when they are asked for."""

import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np

from vaejax.data.dataset import Arrays
from vaejax.data.quiet import one_line
from vaejax.errors import InputError

if TYPE_CHECKING:
    from vaejax.data.pictures import Frame
    from vaejax.data.records import Record, Records

log = logging.getLogger(__name__)
REACH = 100
"""Records among which one is looked for that may stand for a corrupt one."""
Notes = tuple[str, ...]
"""Lines about records that were replaced by others."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split; small, and can be sent to other processes.

    `one` is the grey level of ones where images are black and white, else 0; `factors`
    is the number of known factors. With
    `skip` the next sound record of the split stands for one that is not: the batch is
    still a pure function of the step.
    """

    records: "Records"
    frame: "Frame"
    labelled: bool
    skip: bool = False
    one: int = 0
    factors: int = 0

    def __len__(self) -> int:
        return len(self.records)

    def read(
        self, rows: np.ndarray, u: np.ndarray | None = None
    ) -> tuple[Arrays, Notes]:
        """`x` uint8 `[rows, H * W * C]` and, where there are any, labels `y` int32 and
        `factors` int32 `[rows, F]`.

        `u` `[rows, 3]` are uniform numbers to augment with. InputError names a record
        that cannot be decoded.
        """
        x = np.empty((len(rows), *self.frame.shape), np.uint8)
        y, notes = np.empty(len(rows), np.int32), []
        factors = np.empty((len(rows), self.factors), np.int32)
        records = self._together(rows.tolist())
        for place, row in enumerate(rows.tolist()):
            noise = None if u is None else u[place]
            x[place], record, note = self.example(row, noise, records.get(row))
            y[place], factors[place] = record.label, record.factors
            notes += note
        arrays: Arrays = {"x": x.reshape(len(rows), -1)}
        if self.labelled:
            arrays["y"] = y
        if self.factors:
            arrays["factors"] = factors
        return arrays, tuple(notes)

    def _together(self, rows: list[int]) -> "dict[int, Record]":
        """The records of these rows; none where one of them cannot be read.

        They are then read one by one, to find out which.
        """
        try:
            return dict(zip(rows, self.records.take(rows), strict=True))
        except Exception:  # whatever TFDS or array_record raise
            return {}

    def example(
        self, row: int, u: np.ndarray | None = None, record: "Record | None" = None
    ) -> "tuple[np.ndarray, Record, Notes]":
        """One example: `[H, W, C]`, its record, a note if another stands for it.

        `record` is that of the row, where it has been read already.
        """
        found: InputError | None = None
        for number in range(REACH if self.skip else 1):
            place = (row + number) % len(self)
            try:
                x, read = self.decoded(place, u, None if number else record)
            except InputError as error:
                if not self.skip:
                    raise
                found = found or error
            else:
                other = self.records.where(place)
                return x, read, (f"{found}: {other} stands for it",) if found else ()
        raise InputError(
            f"{found}, and so are {REACH - 1} after it: {self.records.remedy}"
        )

    def decoded(
        self, row: int, u: np.ndarray | None, record: "Record | None" = None
    ) -> "tuple[np.ndarray, Record]":
        """One example as its own record has it; InputError where that is corrupt."""
        from vaejax.data.pictures import decode_picture  # loads PIL

        try:
            record = record or self.records.take([row])[0]
            x = decode_picture(record.content, self.frame, u)
        except Exception as error:  # whatever TFDS, array_record or PIL raise
            remedy = f": {self.records.remedy}, or set --skip-corrupt"
            raise InputError(
                f"{self.records.where(row)} is corrupt ({one_line(error)})"
                + ("" if self.skip else remedy)
            ) from error
        if self.one and not np.isin(x, (0, self.one)).all():
            raise InputError(
                f"{self.records.where(row)} has grey levels, unlike those looked at "
                "first: set --stream no"
            )
        return (x > 0).astype(np.uint8) if self.one else x, record


class Warned:
    """Notes of records that others stand for, each logged once."""

    def __init__(self) -> None:
        self._notes: set[str] = set()

    def warn(self, notes: Notes) -> None:
        """Logs those that are new, with how many there are so far."""
        for note in notes:
            if note not in self._notes:
                self._notes.add(note)
                log.warning("%s (%d so far)", note, len(self._notes))
