"""Sprites in a colour that is no known factor, drawn here."""

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from vaejax.data.builders import VERSIONS
from vaejax.data.builders._grid import GridBuilder
from vaejax.data.builders._sprite import SIDE, sprite
from vaejax.data.builders.sprites import CITATION as _OF_SPRITES

_DESCRIPTION = """
The pictures of `sprites` in a colour each: of red, green and blue a level of its own,
uniform from 128 to 255, by the picture's place in the grid. The colour is no factor: it
is what Color-dSprites adds [Locatello et al. 2019]. This is not dSprites, and numbers
obtained on it compare with no published table.
"""
_CITATION = """
@inproceedings{locatello2019challenging,
  title={Challenging Common Assumptions in the Unsupervised Learning of Disentangled
    Representations},
  author={Locatello, Francesco and Bauer, Stefan and Lucic, Mario and R{\\"a}tsch,
    Gunnar and Gelly, Sylvain and Sch{\\"o}lkopf, Bernhard and Bachem, Olivier},
  booktitle={ICML}, year={2019}
}
"""


def colour(number: int) -> UInt8[np.ndarray, " 3"]:
    """The levels of red, green and blue of a picture."""
    # NumPy promises the raw stream of a bit generator for ever.
    bits = np.random.Philox(key=number).random_raw(3) >> np.uint64(57)
    return (bits + np.uint64(128)).astype(np.uint8)


class SpritesColour(GridBuilder):
    """Builder of `sprites_colour`."""

    name = "sprites_colour"
    VERSION = tfds.core.Version(VERSIONS["sprites_colour"])
    RELEASE_NOTES = {"1.0.0": "Squares, ellipses and hearts, in colour."}
    shape = (SIDE, SIDE, 3)
    description, citation = _DESCRIPTION, _OF_SPRITES + _CITATION
    labelled_by = "shape"

    def draw(self, values: tuple[int, ...], number: int) -> np.ndarray:
        return sprite(*values)[..., None] * colour(number)
