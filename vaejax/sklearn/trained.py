"""The base of the estimators: a preset trained on a table, which can be pickled."""

from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    check_is_fitted,
    check_random_state,
    validate_data,
)

from vaejax import presets
from vaejax.data import Dataset, Spec
from vaejax.data.dataset import in_memory
from vaejax.data.units import standardized
from vaejax.experiment import Experiment
from vaejax.presets import assemble as a
from vaejax.training.loop import train


class Trained(BaseEstimator):
    """A preset and its settings, and the model that `fit` leaves behind."""

    preset: str
    hidden: tuple[int, ...]
    latents: int
    likelihood: str
    epochs: int
    batch_size: int
    learning_rate: float
    settings: dict[str, Any] | None
    random_state: Any

    def _train(self, data: Dataset, **own: Any) -> None:
        """Trains the preset on the data; `own` are settings of the estimator."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._arguments = {
            "hidden": tuple(self.hidden),
            "latents": self.latents,
            "likelihood": self.likelihood,
            "epochs": self.epochs,
            "batch_size": min(self.batch_size, data.spec.sizes["train"]),
            "learning_rate": self.learning_rate,
            "seed": self._seed,
            "evaluate_every": self.epochs,
            **own,
            **(self.settings or {}),
        }
        experiment = self._made(data)
        # As NumPy, and the experiment by its arguments: an estimator can be pickled.
        self.state_ = jax.device_get(train(experiment, quiet=True, devices=1))
        self._spec = experiment.dataset.spec.to_json()

    @property
    def experiment_(self) -> Experiment:
        """The trained experiment, without examples, for `vaejax.sample` and others."""
        check_is_fitted(self, "state_")
        return self._made(in_memory(Spec.from_json(self._spec), {}))

    def _rows(self, X: Any) -> np.ndarray:
        """A table like that of `fit`, without holes, in the model's units."""
        check_is_fitted(self, "state_")
        x: Any = validate_data(self, X, reset=False, dtype=np.float64)
        return standardized(x, self.experiment_.dataset.spec)

    def _made(self, data: Dataset) -> Experiment:
        make = a.pick("preset", self.preset, presets.PRESETS)
        return make(dataset=data, **self._arguments)
