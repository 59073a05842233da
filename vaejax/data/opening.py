"""One name for every source of data."""

from collections.abc import Callable, Sequence

from vaejax.data.arrays import open_npz
from vaejax.data.bits import with_bits
from vaejax.data.cache import load_cached, save
from vaejax.data.classes import of_training
from vaejax.data.dataset import Dataset
from vaejax.data.dialect import Csv
from vaejax.data.kinds import kind_of
from vaejax.data.places import find, parse_name
from vaejax.data.reading import Reading, check_reading
from vaejax.data.schema import open_csv
from vaejax.data.splits import hold_out, restore, standardize
from vaejax.errors import InputError

Opener = Callable[[str], Dataset]
OPENERS: dict[str, Opener] = {}
"""Functions that open what follows `PREFIX:`, of rooms above this one."""


def open_dataset(
    name: str | Dataset,
    validation: float = 0.0,
    counts: Sequence[str] = (),
    categories: Sequence[str] = (),
    reading: Reading = Reading(),
    named: bool = True,
    table: Csv = Csv(),
) -> Dataset:
    """Opens a data set by its name.

    Args:
      name: one of ours ("mnist_5k", "digits", "breast_cancer"), any TFDS set with
        images or with a float vector `features` ("mnist", "name/config:1.0.0"), a file
        "npz:PATH" or "csv:PATH", a folder of pictures "folder:PATH", a set of
        Hugging Face `datasets` on this disk "hf:PATH" or "hf:NAME", latents of a
        trained run "latents:RUN", or a `Dataset`, which passes through.
      validation: what of the training split is held out as the split "validation",
        the same examples in every run: in [0, 1) a fraction, at random, from 2 on the
        number of the last examples. A set which ships that split keeps its own. Tables
        are standardized by what is left to train on.
      counts: columns of a CSV or npz file that are counts: names, patterns as `g*`, or
        `all`.
      categories: columns of a CSV file whose numbers stand for categories.
      reading: whether and how images stream.
      named: whether classes are those that training has, by name; otherwise labels are
        the numbers that are stored, as older runs took them.
      table: how a CSV file is written, where that is not to be found out.

    Returns:
      The description, and the examples of each split: `x` `[N, H * W * C]` of images,
      `[N, D]` of tables.

    Raises:
      InputError: the name is unknown, the data unusable or the fraction impossible.
    """
    check_reading(reading)
    if not (0 <= validation < 1 or (validation >= 2 and validation % 1 == 0)):
        raise InputError(
            f"validation={validation} must be a fraction, at least 0 and less than 1, "
            "or the whole number of the last examples to hold out, at least 2"
        )
    if isinstance(name, Dataset):
        _check_read(name, reading)
        if not validation:
            return name
        return standardize(of_training(hold_out(restore(name), validation)))
    dataset = with_bits(_open(name, counts, categories, reading, table))
    _check_read(dataset, reading)
    held = hold_out(dataset, validation)
    return standardize(of_training(held) if named else held)


def _check_read(dataset: Dataset, reading: Reading) -> None:
    """InputError where examples are arrays already and not read as was asked for."""
    spec, side = dataset.spec, (reading.size, reading.size)
    streams = reading.augments or reading.stream == "yes"
    if (streams and not spec.streams) or (reading.size and spec.shape[:2] != side):
        raise InputError(
            "--stream yes, --image-size, --random-crop and --random-flip are for TFDS "
            f"sets of images, folder: and hf:, which {spec.name!r} is not"
        )


def _open(
    name: str,
    counts: Sequence[str],
    categories: Sequence[str],
    reading: Reading,
    table: Csv,
) -> Dataset:
    if name.startswith("csv:"):
        return open_csv(name.removeprefix("csv:"), counts, categories, table)
    if categories:
        raise InputError("--categories are columns of a csv: data set")
    if table != Csv():
        usual = Csv()._asdict()
        given = [f"--{n}" for n, v in table._asdict().items() if v != usual[n]]
        raise InputError(f"{', '.join(given)}: these are of a csv: data set")
    prefix, _, rest = name.partition(":")
    if rest and prefix in OPENERS:
        if counts:
            raise InputError("--counts are columns of a csv:, npz: or hf: data set")
        return OPENERS[prefix](rest)
    if name.startswith("npz:"):
        return open_npz(name.removeprefix("npz:"), counts)
    if name.startswith("hf:"):
        from vaejax.data.hf import open_hf

        return open_hf(name.removeprefix("hf:"), counts, reading)
    if counts:
        raise InputError("--counts are columns of a csv:, npz: or hf: data set")
    if name.startswith("folder:"):
        from vaejax.data.folder import open_folder

        return open_folder(name.removeprefix("folder:"), reading)
    found = _open_tfds(name, reading)
    return found._replace(spec=found.spec._replace(name=name))


def _streams(dataset: Dataset, reading: Reading) -> bool:
    spec = dataset.spec
    if not kind_of(spec).scaled:
        return False
    return reading.streams(spec.sizes["train"], spec.shape)


def _open_tfds(name: str, reading: Reading) -> Dataset:
    address = parse_name(name)
    folder = find(address)
    cached = load_cached(folder, reading.size) if folder else None
    if cached and not _streams(cached, reading):
        return cached
    # Imported here: they load TFDS, which a cached set does not need.
    from vaejax.data.decode import decode_splits
    from vaejax.data.prepare import prepare

    folder = folder or prepare(address, reading)
    found = decode_splits(name, folder, reading)
    # A set is not kept where records of it may stand for others unnoticed.
    if found.spec.streams or reading.skip:
        return found
    return save(folder, found, reading.size)
