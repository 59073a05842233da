"""Labels of examples, by a model that learned to tell them."""

from typing import Any, NamedTuple

import numpy as np

from vaejax import parallel
from vaejax.apply.inputs import Examples, batch_of_examples
from vaejax.data.classes import labels_of
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.models import predicts


class Prediction(NamedTuple):
    """Predicted labels of examples."""

    probabilities: np.ndarray
    """q(y | x), float32 `[N, classes]`."""
    labels: np.ndarray
    """The most probable labels `[N]`, the data's own: whole numbers or texts."""


def predict(experiment: Experiment, state: TrainState, x: Examples) -> Prediction:
    """q(y | x), the probability of each class for each example.

    Args:
      experiment: what was trained: `m2`, `classifier`, or another with `log_labels`.
      state: its parameters, as `train` and `load` return them.
      x: `[N, *shape]` in the model's units, or what `experiment.inputs` returns; labels
        in it are not looked at.

    Returns:
      Probabilities `[N, classes]` and the most probable labels `[N]`.

    Raises:
      InputError: x is not in the model's units, or the model tells no labels.
    """
    if not predicts(experiment.model):
        raise InputError(
            f"{experiment.name or 'the model'} tells no labels: use m2 or classifier"
        )
    told: Any = x["x"] if isinstance(x, dict) and "x" in x else x
    nobody = np.full(len(np.asarray(told)), -1, np.int32)
    batch = batch_of_examples(experiment, x, {"y": nobody})
    log_labels = parallel.compile_verb(experiment.model, "log_labels")
    probabilities = np.exp(np.asarray(log_labels(variables_of(state), batch)))
    best, names = probabilities.argmax(-1), experiment.dataset.spec.class_names
    return Prediction(probabilities, labels_of(best, names))
