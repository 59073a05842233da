"""One name for every source of data."""

from collections.abc import Sequence

from vaejax.data.arrays import open_npz
from vaejax.data.cache import load, save
from vaejax.data.dataset import Dataset
from vaejax.data.places import find, parse
from vaejax.data.schema import open_csv
from vaejax.data.splits import hold_out, restore, standardize
from vaejax.errors import InputError


def open_dataset(
    name: str | Dataset,
    validation: float = 0.0,
    counts: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> Dataset:
    """Opens a data set by its name.

    `name` is one of ours ("mnist_5k", "digits", "breast_cancer"), any TFDS set with
    images or with a float vector `features` ("mnist", "name/config:1.0.0"), a file
    "npz:PATH" or "csv:PATH", or a `Dataset`, which passes through.

    `validation`, in [0, 1), is the fraction of the training split held out as the split
    "validation", the same examples in every run; a set which ships that split keeps its
    own. Tables are standardized by what is left to train on. `counts` and `categories`
    are the columns of a CSV file whose numbers are counts, or stand for categories.

    InputError where the name is unknown, the data unusable or the fraction impossible.
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation={validation} must be at least 0 and less than 1")
    if isinstance(name, Dataset):
        return standardize(hold_out(restore(name), validation)) if validation else name
    return standardize(hold_out(_open(name, counts, categories), validation))


def _open(name: str, counts: Sequence[str], categories: Sequence[str]) -> Dataset:
    if name.startswith("csv:"):
        return open_csv(name.removeprefix("csv:"), counts, categories)
    if counts or categories:
        raise InputError("--counts and --categories are columns of a csv: data set")
    if name.startswith("npz:"):
        return open_npz(name.removeprefix("npz:"))
    address = parse(name)
    folder = find(address)
    cached = load(folder) if folder else None
    if cached is None:
        # Imported here: they load TFDS, which a cached set does not need.
        from vaejax.data.decode import decode
        from vaejax.data.prepare import prepare

        folder = folder or prepare(address)
        cached = save(folder, decode(name, folder))
    return cached._replace(spec=cached.spec._replace(name=name))
