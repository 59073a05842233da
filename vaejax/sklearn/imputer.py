"""A scikit-learn transformer that fills holes: `VAEImputer`."""

from typing import Any, Self

import jax
import numpy as np
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from vaejax.apply.impute import impute
from vaejax.data import from_arrays
from vaejax.data.holders import with_nan
from vaejax.data.units import in_units, standardized
from vaejax.sklearn.trained import Trained


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, Trained):
    """Fills holes in tables of numbers by MIWAE or a relative of it: NaN, or what
    an array of `numpy.ma` masks.

    Observed entries are returned as they are. A column that is missing everywhere in
    `fit` has nothing to learn from: it is filled with 0, as by scikit-learn's imputers
    with `keep_empty_features`. A row that is missing everywhere gets the model's mean.

    Args:
      preset: miwae, not_miwae, partial_vae, or any preset with an ELBO.
      hidden: widths of the encoder's layers.
      latents: number of latents.
      likelihood: of the numbers: student_t, gaussian_pixel, gaussian, laplace.
      epochs: passes over the rows.
      batch_size: rows of a step, at most all.
      learning_rate: step size of Adam.
      samples: importance samples of each row in `transform`.
      draw: return one draw of p(x_missing | x_observed) instead of its mean: for
        multiple imputation, with another `random_state` each time.
      settings: further settings of the preset, by name.
      random_state: of parameters, order and noise.

    Attributes:
      experiment_, state_: the trained model.
      n_features_in_, feature_names_in_: of the table in `fit`.
    """

    def __init__(
        self,
        preset: str = "miwae",
        *,
        hidden: tuple[int, ...] = (128, 128),
        latents: int = 10,
        likelihood: str = "student_t",
        epochs: int = 500,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        samples: int = 1000,
        draw: bool = False,
        settings: dict[str, Any] | None = None,
        random_state: Any = 0,
    ) -> None:
        self.preset = preset
        self.hidden = hidden
        self.latents = latents
        self.likelihood = likelihood
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.samples = samples
        self.draw = draw
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on a table `[rows, columns]` with NaN in its holes, without `y`."""
        del y
        x = self._table(X, reset=True)
        empty = np.isnan(x).all(0)
        self._kept = ~empty
        if not self._kept.any():
            raise ValueError("all of the table is missing: there is nothing to learn")
        some = x[:, self._kept]
        # No part is held out: rows are few, and what is filled is not scored here.
        data = from_arrays(some, x_test=some)
        self._train(data)
        return self

    def transform(self, X: Any) -> Any:
        """The table with its holes filled, float64 `[rows, columns]`."""
        check_is_fitted(self, "state_")
        x = self._table(X, reset=False)
        experiment = self.experiment_
        some, spec = x[:, self._kept], experiment.dataset.spec
        observed = ~np.isnan(some)
        filled = impute(
            experiment,
            self.state_,
            standardized(some, spec),
            observed,
            jax.random.key(self._seed),
            samples=self.samples,
            multiple=int(self.draw),
        )
        values = in_units(filled.draws[0] if self.draw else filled.single, spec)
        out = np.where(np.isnan(x), 0.0, x)
        out[:, self._kept] = np.where(observed, some, values)
        return out

    def _table(self, X: Any, reset: bool) -> Any:
        return validate_data(
            self,
            with_nan(X),
            reset=reset,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
