"""Signal-to-noise ratios of gradients as values of a record, and their doubts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

ALONE = 0.8
"""Mean of |t| of a standard normal t: the ratio of noise alone, times sqrt(draws)."""
NEAR = 1.3
"""Times that ratio, below which there is no telling signal from noise."""


def of_gradients(
    found: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Ratios by part and gradient over K; None where nothing of a part varies."""

    def ratios(part: str, place: int, kind: int) -> list[float | None]:
        column = found[part][0, place, :, kind].tolist()
        return [ratio if math.isfinite(ratio) else None for ratio in column]

    return {
        "k": list(settings["samples"]),
        "noise": ALONE / math.sqrt(settings["draws"]),
        "parts": {
            part: {
                gradient: {
                    "snr": ratios(part, place, 0),
                    "whole": ratios(part, place, 1),
                }
                for place, gradient in enumerate(settings["gradients"])
            }
            for part in found
        },
    }


def doubts_of_gradients(values: Mapping[str, Any]) -> list[str]:
    """Whether any ratio is more than that of noise alone."""
    low = [
        f"{part} by {gradient} at K = {k:,}"
        for part, each in values["parts"].items()
        for gradient, ratios in each.items()
        for k, ratio in zip(values["k"], ratios["snr"], strict=True)
        if ratio is not None and ratio < NEAR * values["noise"]
    ]
    if not low:
        return []
    return [
        f"ratios of about {values['noise']:.2f} are of noise alone, as those of "
        f"{', '.join(low)}: give more --gradient-draws"
    ]
