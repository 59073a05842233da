"""The scale of pictures: the rule by which those of other types become levels of uint8.

The rule is found from dtype and range of the observed training pixels, and each rule
is one line of NumPy, which is what error messages tell users to write. A range is taken
only where it can mean one thing; any other is refused. Examples that a trained model is
given are taken by the rule of training (`levels_by`), and what it generates is given
back on that scale (`own_scale`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaejax.data.spec import Pixels
from vaejax.errors import InputError


class Rule(NamedTuple):
    """How pixels between `low` and `high` become levels 0 to 255, and back."""

    code: str
    """The expression in NumPy, of `x`."""
    convert: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float
    back: Callable[[np.ndarray], np.ndarray]
    """From the model's units, [0, 1], to those of the pixels."""


RULES = {
    "bool": Rule(
        "255 * x.astype(np.uint8)",
        lambda x: np.uint8(255) * x.astype(np.uint8),
        0,
        1,
        lambda x: x,
    ),
    "bits": Rule("x.astype(np.uint8)", lambda x: x.astype(np.uint8), 0, 1, lambda x: x),
    "unit": Rule(
        "np.round(255 * x).astype(np.uint8)",
        lambda x: np.round(255 * x).astype(np.uint8),
        0,
        1,
        lambda x: x,
    ),
    "signed": Rule(
        "np.round((x + 1) * 127.5).astype(np.uint8)",
        lambda x: np.round((x + 1) * 127.5).astype(np.uint8),
        -1,
        1,
        lambda x: 2 * x - 1,
    ),
    "levels": Rule(
        "np.round(x).astype(np.uint8)",
        lambda x: np.round(x).astype(np.uint8),
        0,
        255,
        lambda x: 255 * x,
    ),
    "whole": Rule(
        "x.astype(np.uint8)",
        lambda x: x.astype(np.uint8),
        0,
        255,
        lambda x: np.round(255 * x),
    ),
    "deep": Rule(
        "(x // 257).astype(np.uint8)",
        lambda x: (x // 257).astype(np.uint8),
        0,
        65535,
        lambda x: np.round(65535 * x),
    ),
}
"""The rules by their names in `Spec.pixels`."""
DARK = 31
"""Pictures of uint8 in training whose largest level is at most this are refused.

They come of scales of 4 or 5 bits, as the digits of scikit-learn, 0 to 16, and a model
would see less than an eighth of [0, 1]. A night may well end at 63 or 120: a remark
suffices there. 0 and 1 are binary pictures, and one level alone has no scale."""


def range_of(x: np.ndarray, observed: np.ndarray | None) -> tuple[float, float]:
    """The least and the largest observed pixel; 0 and 0 where none is observed."""
    seen = x if observed is None else x[observed == 1]
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)


def rule_of(x: np.ndarray, what: str, observed: np.ndarray | None = None) -> str:
    """The name of the rule for pixels of another type than uint8.

    InputError, with the line that mends it where there is one, for another dtype,
    pixels that are not finite, and ranges that may mean several things.
    """
    kind = x.dtype.kind
    if kind == "b":
        return "bool"
    if kind not in "iuf" or x.dtype.itemsize > 8:
        raise InputError(
            f"{what} has dtype {x.dtype}: give pictures as uint8, from 0 to 255"
        )
    low, high = range_of(x, observed)
    if not np.isfinite((low, high)).all():
        raise InputError(
            f"{what} has pixels that are not finite: give np.nan_to_num(x), and a mask "
            "np.isfinite(x).astype(np.uint8) of what is observed"
        )
    found = _float_rule(low, high) if kind == "f" else _whole_rule(low, high)
    if found is None:
        raise InputError(
            f"{what} has dtype {x.dtype} and goes from {low:g} to {high:g}, which may "
            f"mean several things: {remedy(low, high, kind)}"
        )
    return found


def brightness(x: np.ndarray, what: str, observed: np.ndarray | None = None) -> str:
    """A warning of uint8 pictures that use less than half of the levels, else nothing.

    InputError, with the line that mends it, where they are nearly black.
    """
    low, high = range_of(x, observed)
    if low == high or not 1 < high < 128:
        return ""
    if high <= DARK:
        raise InputError(
            f"{what} has dtype uint8 and goes from {low:g} to {high:g}, which is "
            f"nearly black where 255 is white: {remedy(low, high, 'u')}"
        )
    return (
        f"warning: pictures of uint8 go from {low:g} to {high:g} in training, of 255: "
        f"if {high:g} is white, give {_stretched(high)}"
    )


def _stretched(high: float) -> str:
    return f"np.round(x * (255 / {high:g})).astype(np.uint8)"


def _float_rule(low: float, high: float) -> str | None:
    if low >= 0 and (high == 0 or 1 / 255 < high <= 1):
        return "unit"
    if -1 <= low <= -0.5 and 0 < high <= 1:
        return "signed"
    return "levels" if low >= 0 and 128 <= high <= 255 else None


def _whole_rule(low: float, high: float) -> str | None:
    if low < 0:
        return None
    if high <= 1:
        return "bits"
    if 128 <= high <= 255:
        return "whole"
    return "deep" if 2**15 <= high < 2**16 else None


def remedy(low: float, high: float, kind: str) -> str:
    """The line to write where a range is not taken by itself."""
    if low == high:
        return "all pixels are equal; give pictures as uint8, from 0 to 255"
    if kind == "f" and low >= 0 and high <= 1 / 255:
        return "if it was divided by 255 twice, np.round(65025 * x).astype(np.uint8)"
    if kind == "f" and low > -0.5 and high <= 1.5:
        return "if it is of [0, 1], np.round(255 * x.clip(0, 1)).astype(np.uint8)"
    if low >= 0 and high < 128:
        # As uint8 they would be refused again where they are nearly black.
        dim = f"; if it is 255, {RULES['levels'].code}" if high > DARK else ""
        return f"if the largest level is {high:g}, {_stretched(high)}{dim}"
    if low >= 0 and high < 2**16:
        top = 2 ** int(np.ceil(high)).bit_length() - 1
        return (
            f"if the largest level is {top}, {_stretched(top)}; if it is 65535, "
            f"{RULES['deep'].code}"
        )
    return (
        f"if {low:g} is black and {high:g} white, np.round((x - {low!r}) * "
        f"(255 / {high - low!r})).clip(0, 255).astype(np.uint8)"
    )


def take_levels(
    x: np.ndarray, rule: Rule, what: str, observed: np.ndarray | None = None
) -> np.ndarray:
    """Levels uint8 by the rule of the training split; unobserved pixels are 0.

    InputError where an observed pixel is outside the rule's range.
    """
    low, high = range_of(x, observed)
    if not rule.low <= low <= high <= rule.high:
        raise InputError(
            f"{what} goes from {low:g} to {high:g}, and x_train within "
            f"{rule.low:g} to {rule.high:g}: bring both to one scale"
        )
    if observed is None:
        return rule.convert(x)
    seen = observed == 1
    return np.where(seen, rule.convert(np.where(seen, x, x.dtype.type(0))), 0).astype(
        np.uint8
    )


def levels_by(
    x: np.ndarray, pixels: Pixels | None, what: str, observed: np.ndarray | None = None
) -> np.ndarray:
    """Levels uint8 of examples for a trained model: uint8 as they are, others by the
    rule of training, `pixels`.

    InputError, with the line that mends it where there is one, where they are of
    another type or scale than the pictures of training.
    """
    if x.dtype == np.uint8:
        return x
    if pixels is None:
        code = RULES[rule_of(x, what, observed)].code
        raise InputError(
            f"{what} has dtype {x.dtype}: images are uint8, 0 to 255; use {code}"
        )
    rule, known = RULES[pixels.rule], np.dtype(pixels.dtype)
    low, high = range_of(x, observed)
    inside = rule.low <= low <= high <= rule.high
    if not inside or (x.dtype.kind in "iu") != (known.kind in "iu"):
        raise InputError(
            f"{what} has dtype {x.dtype} and goes from {low:g} to {high:g}: the "
            f"pictures of training were {known}, within {rule.low:g} to {rule.high:g}; "
            "bring both to one scale, or give levels of uint8"
        )
    # Of a larger scale than [0, 1], and yet within it.
    if rule.high > 1 and low < high <= rule.high / 255:
        raise InputError(
            f"{what} goes from {low:g} to {high:g}, nearly black where "
            f"{rule.high:g} is white, as in training: bring both to one scale"
        )
    return take_levels(x, rule, what, observed)


def own_scale(x: np.ndarray, pixels: Pixels | None) -> np.ndarray:
    """Pixels in the model's units, [0, 1], on the scale of the pictures of training:
    levels of uint8, or as `pixels` says; of truth values and bits, the probabilities.
    """
    x = np.clip(x, 0, 1)
    if pixels is None:
        return np.round(x * 255).astype(np.uint8)
    rule, known = RULES[pixels.rule], np.dtype(pixels.dtype)
    fits = known.kind == "f" or rule.high > 1
    return rule.back(x).astype(known if fits else np.float32)


CHANNELS = (1, 3, 4)


def check_layout(x: np.ndarray, labels: int | None, what: str) -> None:
    """InputError where the axes of pictures are in an order that cannot be meant.

    `labels` is the number of labels, if any. `x[..., None]` says of an array of rank 3
    that it is `[N, H, W]`.
    """
    found = _four(x.shape) if x.ndim == 4 else _three(x.shape, labels)
    if found:
        seems, mend = found
        raise InputError(
            f"{what} has shape {x.shape}, which looks like {seems}: use {mend}"
        )


def _four(shape: tuple[int, ...]) -> tuple[str, str] | None:
    if shape[3] in CHANNELS:
        return None
    if shape[1] in CHANNELS:
        return "[N, C, H, W]", "x.transpose(0, 2, 3, 1)"
    if shape[2] in CHANNELS and shape[0] == shape[1]:
        return "[H, W, C, N]", "x.transpose(3, 0, 1, 2)"
    return None


def _three(shape: tuple[int, ...], labels: int | None) -> tuple[str, str] | None:
    count, height, width = shape
    if labels == count:
        return None
    escape = "; if it is [N, H, W], x[..., None]"
    if labels == width or (count == height < width and labels is None):
        return "[H, W, N]", f"x.transpose(2, 0, 1){escape}"
    if width in CHANNELS and min(count, height) > max(CHANNELS):
        return "one picture [H, W, C]", f"x[None]{escape}"
    return None
