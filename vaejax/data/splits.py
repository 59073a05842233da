"""Holding examples out and standardizing tables: functions of a `Dataset` to another.

Each is the same in every run: what is held out depends on the number of examples and
the share, never on a run's seed. A share is a fraction below 1, of examples in a fixed
random order, or from 2 on the number of the last examples.
"""

import functools

import numpy as np

from vaejax.data.dataset import Arrays, Dataset, in_memory, streamed
from vaejax.data.kinds import kind_of
from vaejax.data.spec import Spec
from vaejax.data.units import in_units, standardized
from vaejax.errors import InputError

TEST_SHARE = 0.1
"""Share of the training split that is held out where a set has no test split."""


def binarized_once(dataset: Dataset, seed: int = 777) -> Dataset:
    """Draws the bits of validation and test images once; training images stay grey.

    One NumPy generator of a seed draws those of validation, then those of test, as the
    code of Tomczak & Welling 2018 does. Bits are stored as the levels 0 and 255, which
    any binarization leaves as they are. Binary images stay.
    """
    spec = dataset.spec
    if spec.levels == 2 or not kind_of(spec).scaled:
        return dataset
    top = spec.levels - 1

    @functools.cache
    def drawn() -> dict[str, np.ndarray]:
        random = np.random.RandomState(seed)
        names = [name for name in ("validation", "test") if name in spec.sizes]
        grey = {n: dataset.split(n)["x"] / np.float32(top) for n in names}
        bits = {name: random.binomial(1, x) for name, x in grey.items()}
        return {name: (x * top).astype(np.uint8) for name, x in bits.items()}

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        return arrays if name == "train" else arrays | {"x": drawn()[name]}

    return dataset._replace(split=split)


def fixed_permutation(count: int, purpose: int) -> np.ndarray:
    """A fixed order of `count` examples: int64 `[count]`, one for each `purpose`."""
    # NumPy promises the raw stream of a bit generator for ever, unlike `permutation`.
    return np.argsort(np.random.Philox(key=purpose).random_raw(count), kind="stable")


def cut(
    arrays: Arrays, share: float, purpose: int, what: str = "the data"
) -> tuple[Arrays, Arrays]:
    """Indices of one split that are kept, and that are held out.

    InputError where either would be empty.
    """
    rest, held = held_rows(len(arrays["x"]), share, purpose, what)
    return _take(arrays, rest), _take(arrays, held)


def held_rows(
    count: int, share: float, purpose: int, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """The places of what is kept and of what is held out, of `count` examples."""
    last = share >= 2
    held = int(share) if last else max(1, round(count * share))
    if held >= count:
        words = f"{held:,}" if last else f"{share:.0%}"
        raise InputError(
            f"{what} has too few training examples ({count}) to hold "
            f"{words} out: give more examples or hold less out"
        )
    if last:
        return np.arange(count - held), np.arange(count - held, count)
    order = fixed_permutation(count, purpose)
    return order[held:], order[:held]


def hold_out(dataset: Dataset, fraction: float) -> Dataset:
    """Moves a share of the training split to the split "validation".

    A set that has that split keeps it as it is.
    """
    spec = dataset.spec
    if fraction == 0 or "validation" in spec.sizes:
        return dataset
    if spec.streams:
        return _hold_out_of_stream(dataset, fraction)
    splits = {name: dataset.split(name) for name in spec.sizes}
    train, held = cut(splits["train"], fraction, purpose=1, what=repr(spec.name))
    splits |= {"train": train, "validation": held}
    sizes = {name: len(arrays["x"]) for name, arrays in splits.items()}
    return in_memory(spec._replace(sizes=sizes), splits)


def _hold_out_of_stream(dataset: Dataset, fraction: float) -> Dataset:
    from vaejax.data.images import halved

    spec = dataset.spec
    splits = {name: dataset.examples(name) for name in spec.sizes}
    splits |= halved(splits["train"], fraction, 1, spec.name, "validation")
    sizes = {name: len(examples) for name, examples in splits.items()}
    return streamed(spec._replace(sizes=sizes), splits)


def standardize(dataset: Dataset) -> Dataset:
    """Tables to mean 0 and deviation 1 in each column of the training split, float32,
    and maps of latents alike in each channel, over all places. Where `noise` is added
    to x, the deviation is that of x with it.

    By the entries that are observed; holes are 0 afterwards. The statistics are kept in
    the `Spec`; a constant column has scale 1, and numbers that stand for something else
    (categories, counts) stay as they are. Images stay.

    InputError where a column has no entry in the training split, or too large ones.
    """
    spec = dataset.spec
    if not kind_of(spec).standardized:
        return dataset
    train = dataset.split("train")
    x = train["x"].reshape(-1, spec.shape[-1])
    check_columns(x, spec)
    # A sum can round, so a constant column is told by its range, not its deviation.
    low, high = np.nanmin(x, 0), np.nanmax(x, 0)
    constant = low == high
    kinds = [column.kind for column in spec.columns] or ["real"] * x.shape[1]
    plain = np.array([kind in ("binary", "category", "count") for kind in kinds])
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(
            plain, 0.0, np.where(constant, low, np.nanmean(x, 0, np.float64))
        )
        deviation = np.nanstd(x, 0, np.float64)
        if "noise" in train:
            noise = train["noise"].reshape(-1, spec.shape[-1])
            deviation = np.sqrt(deviation**2 + np.mean(noise**2, 0, np.float64))
        scale = np.where(plain | constant, 1.0, deviation)
    if not np.isfinite(mean).all() or not np.isfinite(scale).all():
        raise InputError(f"{spec.name!r} holds numbers too large to standardize")

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        return (
            arrays | {"x": standardized(arrays["x"], known)} | rescaled(arrays, scale)
        )

    known = spec._replace(mean=tuple(mean.tolist()), scale=tuple(scale.tolist()))
    known = known._replace(**libraries(dataset))
    return Dataset(known, split)


def rescaled(arrays: Arrays, scale: np.ndarray) -> Arrays:
    """`noise` in units of `scale` of each column or channel, if there is any."""
    if "noise" not in arrays:
        return {}
    noise = arrays["noise"]
    units = noise.reshape(-1, len(scale)) / scale
    return {"noise": units.reshape(noise.shape).astype(np.float32)}


def libraries(dataset: Dataset) -> dict[str, float]:
    """`Spec.library` and `Spec.empty_rows` of a table in its own units."""
    spec = dataset.spec
    counts = [place for place, c in enumerate(spec.columns) if c.kind == "count"]
    if not counts:
        return {}
    totals = {s: dataset.split(s)["x"][:, counts].sum(1) for s in spec.sizes}
    train = np.nansum(dataset.split("train")["x"][:, counts], 1)
    empty = sum(int((total == 0).sum()) for total in totals.values())
    return {"library": float(train.mean()), "empty_rows": empty}


def restore(dataset: Dataset) -> Dataset:
    """The inverse of `standardize`: tables in their own units, float64."""
    spec = dataset.spec
    if not spec.mean:
        return dataset

    def split(name: str) -> Arrays:
        arrays = dataset.split(name)
        known = (arrays.get("mask", 1) == 1) | (arrays.get("hidden", 0) == 1)
        x = np.where(known, in_units(arrays["x"], spec), np.nan)
        return arrays | {"x": x} | rescaled(arrays, 1 / np.array(spec.scale))

    return Dataset(spec._replace(mean=(), scale=()), split)


def check_columns(x: np.ndarray, spec: Spec) -> None:
    """Something must be observed in every column of the training split."""
    empty = np.flatnonzero(np.isnan(x).all(0))
    if len(empty):
        names = [spec.columns[n].name if spec.columns else str(n) for n in empty]
        raise InputError(
            f"{spec.name!r} has no entry of column {', '.join(names)} to learn from: "
            "all of it is missing in the training split; drop it"
        )


def _take(arrays: Arrays, rows: np.ndarray) -> Arrays:
    return {key: array[rows] for key, array in arrays.items()}
