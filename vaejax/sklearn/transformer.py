"""A scikit-learn transformer of rows to latents and back."""

from typing import Any, Self

import jax
import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from vaejax.apply.query import decode, encode, log_likelihood
from vaejax.data import from_arrays
from vaejax.data.units import in_units
from vaejax.sklearn.trained import Trained


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Trained):
    """Encodes rows of numbers as latents, by a VAE or a relative of it.

    Args:
      preset: vae, beta_vae, iwae, or any preset with an ELBO and one vector of latents.
      hidden: widths of the encoder's layers.
      latents: number of latents.
      likelihood: of the numbers: gaussian, gaussian_pixel, student_t, laplace.
      epochs: passes over the rows.
      batch_size: rows of a step, at most all.
      learning_rate: step size of Adam.
      samples: importance samples of each row in `score`.
      settings: further settings of the preset, by name.
      random_state: of parameters, order and noise.

    Attributes:
      experiment_, state_: the trained model.
      n_features_in_, feature_names_in_: of the table in `fit`.
    """

    def __init__(
        self,
        preset: str = "vae",
        *,
        hidden: tuple[int, ...] = (128, 128),
        latents: int = 10,
        likelihood: str = "gaussian",
        epochs: int = 200,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        samples: int = 100,
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
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on a table `[rows, columns]`, without `y`."""
        del y
        x: Any = validate_data(self, X, dtype=np.float64)
        self._train(from_arrays(x, x_test=x))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """E[z | x] of each row, float64 `[rows, latents]`."""
        q: Any = encode(self.experiment_, self.state_, self._rows(X))
        return np.asarray(q.mean, np.float64)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """E[x | z] of latents `[rows, latents]`, float64 `[rows, columns]`."""
        check_is_fitted(self, "state_")
        z = check_array(X, dtype=np.float64)  # pyright: ignore[reportArgumentType]
        x = decode(self.experiment_, self.state_, z.astype(np.float32))
        return in_units(np.asarray(x), self.experiment_.dataset.spec)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean bound of log p(x) by importance sampling, nats a row.

        It is of densities in the table's own units, as that of scikit-learn's PCA.
        """
        del y
        experiment = self.experiment_
        key = jax.random.key(self._seed)
        rows = self._rows(X)
        found = log_likelihood(experiment, self.state_, rows, key, self.samples)
        scale = np.array(experiment.dataset.spec.scale)
        return float(np.mean(found) - np.log(scale).sum())

    @property
    def _n_features_out(self) -> int:
        """The number of columns that `transform` gives."""
        return self.latents
