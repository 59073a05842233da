"""Three squares that each move along both axes, drawn here."""

import numpy as np
import tensorflow_datasets as tfds

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._grid import GridBuilder

_DESCRIPTION = """
Pictures of 64 x 64 pixels with a red, a green and a blue square of 8 x 8 pixels, each
at one of 8 x 8 places that do not overlap: 262,144 in all, whose six factors are the
places along both axes. Where squares lie on each other, their colours add. Neighbouring
values of a factor share no pixel, so that pixels do not tell which values are close:
beta-VAEs find no axes here [Michlo et al. 2022].
"""
_CITATION = """
@article{michlo2022overlooked,
  title={Overlooked Implications of the Reconstruction Loss for {VAE} Disentanglement},
  author={Michlo, Nathan and Klein, Richard and James, Steven},
  journal={arXiv:2202.13341}, year={2022}
}
"""
SIDE, SQUARE = 64, 8


class XySquares(GridBuilder):
    """Builder of `xy_squares`."""

    name = "xy_squares"
    VERSION = tfds.core.Version(VERSIONS["xy_squares"])
    RELEASE_NOTES = {"1.0.0": "Three squares."}
    shape = (SIDE, SIDE, 3)
    description, citation = _DESCRIPTION, _CITATION

    def draw(self, values: tuple[int, ...], number: int) -> np.ndarray:
        picture = np.zeros(self.shape, np.uint8)
        for channel in range(3):
            left, top = (SQUARE * value for value in values[2 * channel :][:2])
            picture[top : top + SQUARE, left : left + SQUARE, channel] = 255
        return picture
