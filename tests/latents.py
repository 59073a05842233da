"""Codes for tests of second stages, without a first stage."""

from vaejax.data import Dataset, open_dataset
from vaejax.data.dataset import in_memory

CODES = 8


def codes_of_digits() -> Dataset:
    """Maps 2 x 2 of 8 codes, the mean brightness of quarters of `digits`, with labels.

    An example of `digits` is one here, in the same split.
    """
    digits = open_dataset("digits")

    def coded(split: str) -> dict:
        arrays = digits.split(split)
        quarters = arrays["x"].reshape(-1, 2, 4, 2, 4).mean((2, 4)) / 256
        return {**arrays, "x": (CODES * quarters).astype("int32").reshape(-1, 4)}

    spec = digits.spec._replace(
        name="codes of digits",
        kind="code map",
        shape=(2, 2, 1),
        levels=CODES,
        nearly_binary=False,
        pixels=None,
    )
    return in_memory(spec, {split: coded(split) for split in digits.spec.sizes})


DATA = {"code_transformer": codes_of_digits}
"""The data of presets that are for no pictures, by their names."""
