"""Sprites on a grid of known factors, drawn here."""

import numpy as np
import tensorflow_datasets as tfds

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._grid import GridBuilder
from vaejax.data.builders._sprite import SIDE, sprite

_DESCRIPTION = """
Black and white pictures of 64 x 64 pixels, a square, an ellipse or a heart each, of 6
scales, 40 orientations and 32 x 32 positions: 737,280 in all, on the grid of factors
of dSprites. They are drawn from a geometry that was fitted to pictures of
dSprites, and some of their pixels differ from it: this is not dSprites, and numbers
obtained on it compare with no published table. The first and the last orientation are
a whole turn apart.
"""
CITATION = """
@misc{matthey2017dsprites,
  title={{dSprites}: Disentanglement Testing Sprites Dataset},
  author={Matthey, Loic and Higgins, Irina and Hassabis, Demis and Lerchner, Alexander},
  howpublished={https://github.com/google-deepmind/dsprites-dataset}, year={2017}
}
"""


class Sprites(GridBuilder):
    """Builder of `sprites`."""

    name = "sprites"
    VERSION = tfds.core.Version(VERSIONS["sprites"])
    RELEASE_NOTES = {"1.0.0": "Squares, ellipses and hearts."}
    shape = (SIDE, SIDE, 1)
    description, citation = _DESCRIPTION, CITATION
    labelled_by = "shape"

    def draw(self, values: tuple[int, ...], number: int) -> np.ndarray:
        return sprite(*values) * np.uint8(255)
