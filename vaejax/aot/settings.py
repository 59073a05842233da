"""Settings of checks for devices that are not here."""

import dataclasses

from vaejax.nn.layers import PrecisionName
from vaejax.runtime.limits import check_count


@dataclasses.dataclass(frozen=True)
class Beside:
    """Programs that are compiled beside the training step.

    Args:
      tries: compilations at most in search of the largest batch that fits, each as
        long as that of the step; 0: no search.
      encode: examples that one device encodes at once, as encode.py does, whose memory
        and least time are told; 0: training alone.
      encode_precision: of hidden layers that encode, as --precision of encode.py.
    """

    tries: int = 5
    encode: int = 0
    encode_precision: PrecisionName = "f32"

    def __post_init__(self) -> None:
        check_count("tries", self.tries)
        check_count("encode", self.encode)
