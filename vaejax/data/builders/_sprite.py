"""The shapes of sprites, drawn by their geometry.

Distances are in pixels of a picture of 64 x 64, and at scale 1; v grows downwards.
"""

import numpy as np
from jaxtyping import Float, UInt8

SIDE = 64
SCALES = np.linspace(0.5, 1.0, 6)
ANGLES = np.linspace(0.0, 2 * np.pi, 40)
"""Both ends are included: the first and the last orientation look alike."""
PLACES = 16 + 32 * np.linspace(0.0, 1.0, 32)
REACH = 15
"""Pixels from the middle that no shape goes beyond."""
HALF = 9.6
"""Half the side of a square."""
AXES = (12.8, 7.25)
"""Half axes of an ellipse."""
CORNERS = 32
"""Corners of the polygon that stands for it."""
TIP = -2.0
"""Middle of the heart's polar form, below the point that it turns about."""
RADII = np.array(
    [
        3.100, 3.724, 4.364, 5.127, 5.655, 6.226, 6.739, 7.265, 7.540, 8.185, 8.552,
        8.631, 9.057, 9.241, 9.494, 9.546, 9.759, 9.870, 9.851, 10.043, 10.053, 10.077,
        10.168, 10.031, 9.997, 9.925, 9.786, 9.681, 9.535, 9.354, 9.245, 9.030, 8.873,
        8.642, 8.549, 8.133, 8.151, 7.984, 7.883, 7.737, 7.611, 7.601, 7.473, 7.425,
        7.380, 7.594, 7.358, 7.389, 7.413, 7.584, 7.541, 7.659, 7.821, 7.982, 8.192,
        8.478, 8.727, 9.158, 9.661, 10.310, 11.634,
    ]
)  # fmt: skip
"""Radii of the heart's right half, from straight up to straight down."""
_DEGREES = np.linspace(-90, 90, len(RADII))


def in_square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are in the square."""
    return np.maximum(np.abs(u), np.abs(v)) <= HALF


def in_ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are in the ellipse's polygon, whose corners are on the ellipse."""
    u, v = u / AXES[0], v / AXES[1]
    angle, half = np.arctan2(v, u), np.pi / CORNERS
    return np.hypot(u, v) <= np.cos(half) / np.cos(angle % (2 * half) - half)


def in_heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are in the heart, whose left half mirrors the right one."""
    v = v - TIP
    degrees = np.degrees(np.arctan2(v, np.abs(u)))
    return np.hypot(u, v) <= np.interp(degrees, _DEGREES, RADII)


INSIDE = (in_square, in_ellipse, in_heart)


def sprite(
    shape: int, scale: int, orientation: int, x: int, y: int
) -> UInt8[np.ndarray, "64 64"]:
    """The picture of a sprite by its factors: 1 inside the shape, 0 elsewhere.

    A larger orientation turns it anticlockwise.
    """
    left, top = int(PLACES[x]) - REACH, int(PLACES[y]) - REACH
    window = np.arange(2 * REACH + 1) + 0.5
    u: Float[np.ndarray, "1 window"] = (left + window - PLACES[x])[None]
    v: Float[np.ndarray, "window 1"] = (top + window - PLACES[y])[:, None]
    cos, sin = np.cos(ANGLES[orientation]), np.sin(ANGLES[orientation])
    u, v = (cos * u - sin * v) / SCALES[scale], (sin * u + cos * v) / SCALES[scale]
    picture = np.zeros((SIDE, SIDE), np.uint8)
    here = slice(top, top + len(window)), slice(left, left + len(window))
    picture[here] = INSIDE[shape](u, v)
    return picture
