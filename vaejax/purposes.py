"""Purposes of random keys: numbers that are folded into a key, one for each use.

Two uses of one key draw the same numbers, which nothing in the result would say. Each
enumeration names all uses of one kind of key.
"""

from enum import IntEnum, unique


@unique
class OfRun(IntEnum):
    """The key of a run's seed."""

    TRAINING = 0
    EVALUATION = 1
    LABORATORY = 2
    SAMPLER = 3
    ENCODING = 4


@unique
class OfLaboratory(IntEnum):
    """The key of a run's laboratory: a measurement each, whose chunks fold theirs."""

    NLL_OVER_K = 0
    AIS = 1
    SIMULATED = 2
    GAPS = 3
    RATE_DISTORTION = 4
    POSTERIOR = 5
    GRADIENTS = 6
    ENCODINGS = 7


@unique
class OfStep(IntEnum):
    """The key of a step: `fold_in(key of training, step)`."""

    DATA = 0
    PLAYERS = 1


@unique
class OfData(IntEnum):
    """The key of a batch's preprocessing, beside its own draws, which use it whole."""

    SEEN = 1


@unique
class OfObjective(IntEnum):
    """The key of an objective, the same for all players.

    `fold_in(key, n)` is also `split(key, samples)[n]`, the key of draw n of z: games
    make one draw, so that LATENT is all they need, and HOLES, which importance-weighted
    bounds use, is beyond any number of samples.
    """

    LATENT = 0
    PRIOR = 1
    POSTERIOR = 2
    MIXING = 3
    DROPOUT = 4
    TIMES = 5
    NULL_LABELS = 6
    ORDER = 7
    DIRECTION = 8
    HOLES = 2**31


@unique
class OfLayer(IntEnum):
    """The key of one draw of a hierarchy, whose first block uses it whole."""

    TOP = 1
    MOMENTUM = 2
