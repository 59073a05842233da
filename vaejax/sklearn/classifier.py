"""A scikit-learn classifier that learns from rows with and without labels."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from vaejax.apply.predict import predict
from vaejax.data import from_arrays
from vaejax.sklearn.trained import Trained


class VAEClassifier(ClassifierMixin, Trained):
    """Tells labels of rows of numbers by the semi-supervised VAE, `m2`.

    In `fit`, rows whose label is -1 have none, as in scikit-learn's semi-supervised
    estimators; texts are labels always.

    Args:
      preset: m2.
      hidden: widths of the layers of classifier and encoder.
      latents: number of latents beside the label.
      likelihood: of the numbers: gaussian, gaussian_pixel, student_t, laplace.
      alpha: weight of the classifier's loss on labels.
      epochs: passes over the rows.
      batch_size: rows of a step, at most all.
      learning_rate: step size of Adam.
      settings: further settings of the preset, by name.
      random_state: of parameters, order and noise.

    Attributes:
      classes_: the labels that `fit` saw.
      experiment_, state_: the trained model.
      n_features_in_, feature_names_in_: of the table in `fit`.
    """

    def __init__(
        self,
        preset: str = "m2",
        *,
        hidden: tuple[int, ...] = (64,),
        latents: int = 5,
        likelihood: str = "gaussian",
        alpha: float = 1.0,
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        settings: dict[str, Any] | None = None,
        random_state: Any = 0,
    ) -> None:
        self.preset = preset
        self.hidden = hidden
        self.latents = latents
        self.likelihood = likelihood
        self.alpha = alpha
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on a table `[rows, columns]` and labels `[rows]`, -1 for none."""
        x, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        labels = np.asarray(y)
        known = np.ones(len(labels), bool)
        if labels.dtype.kind in "if":
            known = labels != -1
        if not known.any():
            raise ValueError("all labels are -1, which is none: give some")
        self.classes_ = np.unique(labels[known])
        places = np.searchsorted(self.classes_, labels[known])
        some = np.full(len(labels), -1)
        some[known] = places
        # Nothing is held out: rows with a label are few, and are not scored here.
        data = from_arrays(x, some, x[known], places)
        self._train(data, labels=0, alpha=self.alpha)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """q(y | x) of each row, float64 `[rows, classes]`, in the order of
        `classes_`.
        """
        found = predict(self.experiment_, self.state_, self._rows(X))
        shares = found.probabilities.astype(float)
        return shares / shares.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]
