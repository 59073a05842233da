"""Layers and networks: shapes, and nothing of probability."""

from vaejax.nn.adapted import Adapted, Arrays, Foreign, from_functions
from vaejax.nn.frameworks import from_equinox, from_nnx

__all__ = [
    "Adapted",
    "Arrays",
    "Foreign",
    "from_equinox",
    "from_functions",
    "from_nnx",
]
