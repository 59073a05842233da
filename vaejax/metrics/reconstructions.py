"""Distances of reconstructions to the images that they are of, in features.

As of samples, but of E[x | z] at z = E[z | x] of test examples: their names begin with
`r`, as in rFID.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vaejax.apply.query import reconstruct
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.features import checked_features
from vaejax.metrics.samples import frechet_distance, kernel_distance
from vaejax.metrics.sources import (
    CHUNK,
    FeatureSource,
    features_of,
    held_out_units,
    pieces_of,
)
from vaejax.models import conditions_of, generates, infers
from vaejax.training.evaluator import held_out_examples
from vaejax.types import Array


def reconstructs(experiment: Experiment) -> bool:
    """Whether it makes whole examples again: a model that encodes and decodes, of data
    without holes, and that is not shown a part of x.
    """
    model, spec = experiment.model, experiment.dataset.spec
    whole = not spec.masked and not {"seen", "context"} & set(conditions_of(model))
    return infers(model) and generates(model) and whole


def reconstructions_of(
    experiment: Experiment, state: TrainState, num: int, chunk: int = CHUNK
) -> Iterator[np.ndarray]:
    """E[x | z] at z = E[z | x] of at most `num` test examples, those of
    `held_out_units`, in the model's units, `chunk` at a time.
    """
    batch = held_out_examples(experiment, num)
    names = conditions_of(experiment.model)
    for start in range(0, len(batch["x"]), chunk):
        some = {n: a[start : start + chunk] for n, a in batch.items()}
        given = {name: some[name] for name in names}
        x = reconstruct(experiment, state, some["x"], given)
        yield np.asarray(x)


def compare_reconstructions(
    experiment: Experiment,
    state: TrainState,
    source: FeatureSource,
    num: int = 10_000,
    real: np.ndarray | None = None,
) -> dict[str, float]:
    """Distances of reconstructions to their test examples, seen by a source.

    `real` are the features of `held_out_units`, where they are known already.

    Both are in the data's own units: of a model of bits, reconstructions of bits are
    compared with grey levels.

    Returns:
      The numbers of `reconstruction_distances`, by the source's own names.
    """
    restore = experiment.preprocess.restore
    if real is None:
        real = features_of(source, pieces_of(held_out_units(experiment, num)))
    again = (restore(x) for x in reconstructions_of(experiment, state, num))
    found = reconstruction_distances(real, features_of(source, again), source.name)
    return {source.renamed.get(name, name): value for name, value in found.items()}


def reconstruction_distances(
    real: Array | np.ndarray, again: Array | np.ndarray, source: str
) -> dict[str, float]:
    """`rfd_*` and `rkd_*`: Fréchet [Heusel et al. 2017, eq. 6] and kernel distance
    [Binkowski et al. 2018, sec. 4] of reconstructions to the data.

    Args:
      real: features of data, `[N, features]`.
      again: features of their reconstructions, `[N, features]`.
      source: the name of the features, at the end of each number's name.
    """
    a: Any = checked_features(real, "the data")
    b: Any = checked_features(again, "the reconstructions")
    return {
        f"rfd_{source}": frechet_distance(a, b),
        f"rkd_{source}": kernel_distance(a, b).value,
    }
