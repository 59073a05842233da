"""Settings of reading images: decoded once into memory, or while training."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from vaejax.errors import InputError

LIMIT = 2**30
"""Bytes of a decoded training split; what is larger streams."""
Stream = Literal["auto", "yes", "no"]


class Reading(NamedTuple):
    """The settings of reading images; the defaults change nothing in them."""

    stream: Stream = "auto"
    """Whether examples are decoded when they are needed."""
    size: int = 0
    """Pixels a side, of the square in the middle; 0 keeps images as they are."""
    crop: int = 0
    """Pixels that a random crop takes off each side, of what is resized before."""
    flip: bool = False
    """Whether half of the training images are mirrored, left to right."""
    skip: bool = False
    """Whether the next sound record stands for one that cannot be decoded."""

    @property
    def augments(self) -> bool:
        """Whether a training image differs from access to access."""
        return self.flip or self.crop > 0

    def streams(self, count: int, shape: Sequence[int]) -> bool:
        """Whether a set of so many training images of this shape streams."""
        if self.stream != "auto":
            return self.stream == "yes"
        return self.augments or count * math.prod(shape) > LIMIT


def check_reading(reading: Reading) -> None:
    """InputError where a setting is out of range or two contradict each other."""
    for name, value in (("image-size", reading.size), ("random-crop", reading.crop)):
        if value < 0:
            raise InputError(f"--{name} is {value}: it must be at least 0")
    if reading.augments and reading.stream == "no":
        raise InputError(
            "--random-crop and --random-flip are done while images stream: leave out "
            "--stream no"
        )
