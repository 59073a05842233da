"""Which entries are observed: pure functions of a seed and an example's place.

Every mask is bool `[N, D]`, True where observed. Example i draws the same numbers
whatever `N` is, so a mask belongs to its example and not to the access. What is done
with them depends on the other examples of the split in `exact`, which hides a number
of entries, and in `mar` and `mnar`, whose offset b gives the rate over the split. Rates
are the expected share of what is hidden among the columns that can be.
"""

import numpy as np
from scipy.special import expit

from vaejax.errors import InputError

STEEPNESS = 2.0
"""Slope of the logistic missingness, for standardized columns."""


def uniforms(seed: int, split: int, count: int, width: int) -> np.ndarray:
    """`[count, width]` on [0, 1): row i depends on seed, split, i and `width` alone."""
    # NumPy promises the raw stream of a bit generator for ever.
    raw = np.random.Philox(key=[seed, split]).random_raw(count * width)
    return (raw >> np.uint64(11)).reshape(count, width) / 2.0**53


def mcar(u: np.ndarray, rate: float) -> np.ndarray:
    """Missing completely at random: each entry with probability `rate`."""
    return u >= rate


def exact(u: np.ndarray, rate: float) -> np.ndarray:
    """Exactly floor(N D rate) entries, without replacement [Mattei & Frellsen 2019]."""
    hidden = np.argsort(u, axis=None, kind="stable")[: int(u.size * rate)]
    observed = np.ones(u.size, bool)
    observed[hidden] = False
    return observed.reshape(u.shape)


def mar(u: np.ndarray, x: np.ndarray, rate: float, columns: int) -> np.ndarray:
    """Missing at random: columns from `columns` on, by a logistic of those before.

    logit P(missing) = s (sum of the first columns / sqrt(their number) - b), the same
    for all columns of an example; b gives the rate.
    """
    score = x[:, :columns].sum(1) / np.sqrt(columns)
    hidden = u[:, columns:] < logistic(score, rate)[:, None]
    return np.concatenate([np.ones((len(x), columns), bool), ~hidden], 1)


def mnar(u: np.ndarray, x: np.ndarray, rate: float, columns: int) -> np.ndarray:
    """Missing not at random: each of the first columns by a logistic of itself."""
    observed = np.ones(x.shape, bool)
    for column in range(columns):
        chance = logistic(x[:, column], rate)
        observed[:, column] = u[:, column] >= chance
    return observed


def above_mean(x: np.ndarray, columns: int) -> np.ndarray:
    """Self-masking of not-MIWAE: the first columns are missing above their mean.

    `x` is standardized, so that the mean is 0 [Ipsen et al. 2021, sec. 4.1].
    """
    hides = np.arange(x.shape[1]) < columns
    return ~((x > 0) & hides)


def logistic(score: np.ndarray, rate: float) -> np.ndarray:
    """sigmoid(STEEPNESS (score - b)), with b so that its mean is `rate`."""
    from scipy.optimize import brentq  # takes a tenth of a second to load

    def excess(b: float) -> float:
        return float(expit(STEEPNESS * (score - b)).mean() - rate)

    reach = 40 / STEEPNESS
    b = brentq(excess, score.min() - reach, score.max() + reach)
    return expit(STEEPNESS * (score - b))


def rectangle(u: np.ndarray, height: int, width: int) -> np.ndarray:
    """A rectangle of images, by four numbers `u` `[N, 4]`: `[N, H * W]`.

    Its sides are uniform between a quarter and three quarters of the image's, its place
    is uniform where it fits.
    """
    top, bottom = span(u[:, 0], u[:, 1], height)
    left, right = span(u[:, 2], u[:, 3], width)
    row, column = np.arange(height), np.arange(width)
    rows = (row >= top[:, None]) & (row < bottom[:, None])
    columns = (column >= left[:, None]) & (column < right[:, None])
    return ~(rows[:, :, None] & columns[:, None, :]).reshape(len(u), -1)


def span(size: np.ndarray, place: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
    """Start and end of an interval of random size and place within `length`."""
    least = max(1, length // 4)
    sizes = least + np.floor(size * (3 * length // 4 - least + 1)).astype(int)
    start = np.floor(place * (length - sizes + 1)).astype(int)
    return start, start + sizes


def quadrant(u: np.ndarray, height: int, width: int) -> np.ndarray:
    """One of the four quadrants of images, by `u` `[N, 1]`."""
    return hide_block(np.floor(u[:, 0] * 4).astype(int), height, width, QUADRANTS)


def half(u: np.ndarray, height: int, width: int) -> np.ndarray:
    """The upper, lower, left or right half of images, by `u` `[N, 1]`."""
    return hide_block(np.floor(u[:, 0] * 4).astype(int), height, width, HALVES)


# Per place: (lower rows, right columns); None is both.
QUADRANTS = ((False, False), (False, True), (True, False), (True, True))
HALVES = ((False, None), (True, None), (None, False), (None, True))


def hide_block(
    which: np.ndarray,
    height: int,
    width: int,
    places: tuple[tuple[bool | None, bool | None], ...],
) -> np.ndarray:
    """Hides the chosen block of each image."""
    lower = np.arange(height) >= height // 2
    right = np.arange(width) >= width // 2
    blocks = []
    for low, far in places:
        rows = np.ones(height, bool) if low is None else lower == low
        columns = np.ones(width, bool) if far is None else right == far
        blocks.append(np.outer(rows, columns).reshape(-1))
    return ~np.stack(blocks)[which]


def check_rate(rate: float) -> None:
    """InputError where the rate is none."""
    if not 0 < rate < 1:
        raise InputError(f"--hide-rate is {rate}: it must be above 0 and below 1")
