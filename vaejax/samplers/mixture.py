"""Mixtures of Gaussians with full covariances, fitted by expectation maximization."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.errors import InputError
from vaejax.samplers.encodings import Encodings
from vaejax.types import Array, Key

COMPONENTS = 10
WIDEST = 1024
"""Latents beyond which full covariances take too much memory and data."""


def fit_gmm(encodings: Encodings, seed: int, components: int = 0) -> dict:
    """Weights, means and factors of the covariances of each label's mixture.

    A mixture of ten Gaussians with full covariances [Ghosh et al. 2020, sec. 4], by
    scikit-learn's EM from a k-means start. Of a conditional model each label has a
    mixture of its own, of one Gaussian.

    Args:
      encodings: draws of the aggregated posterior.
      seed: of the start.
      components: Gaussians of each mixture; 0: ten, or one for each label.

    Returns:
      `weights` `[labels, K]`, `means` `[labels, K, D]` and lower triangular `factors`
      `[labels, K, D, D]` of the covariances, float32.

    Raises:
      InputError: a label has too few encodings, or there are too many latents.
    """
    count = components or (1 if encodings.classes else COMPONENTS)
    fitted = [
        fit_one(z, count, seed, what) for what, z in encodings_by_label(encodings)
    ]
    return {
        name: np.stack([each[name] for each in fitted]).astype(np.float32)
        for name in fitted[0]
    }


def encodings_by_label(encodings: Encodings) -> list[tuple[str, np.ndarray]]:
    """The encodings of each label, with words for it; all, where there are none."""
    if encodings.y is None:
        return [("the training split", encodings.z)]
    return [
        (f"label {label}", encodings.z[encodings.y == label])
        for label in range(encodings.classes)
    ]


def fit_one(z: np.ndarray, count: int, seed: int, what: str) -> dict[str, np.ndarray]:
    """The mixture of `count` Gaussians for encodings z `[N, D]`."""
    from sklearn.mixture import GaussianMixture  # loads for seconds
    from threadpoolctl import threadpool_limits

    size = z.shape[1]
    if size > WIDEST:
        raise InputError(
            f"gmm has full covariances, too large for {size:,} latents: use flow or "
            "two_stage"
        )
    if len(np.unique(z, axis=0)) < max(2, count):
        raise InputError(
            f"gmm needs {max(2, count)} different encodings, and {what} has fewer: "
            "give fewer --components"
        )
    # Standardized, so that the ridge on the covariances has the same meaning for all.
    loc, scale = z.mean(0), np.where(z.std(0) > 0, z.std(0), 1.0)
    with threadpool_limits(1):  # products are small: threads would only wait
        found = GaussianMixture(count, random_state=seed).fit((z - loc) / scale)
    factors = np.linalg.cholesky(np.asarray(found.covariances_))
    return {
        "weights": np.asarray(found.weights_),
        "means": np.asarray(found.means_) * scale + loc,
        "factors": factors * scale[:, None],
    }


def draw_gmm(
    arrays: Mapping[str, np.ndarray],
    classes: int,
    key: Key,
    labels: np.ndarray,
    temperature: float | Array | None,
) -> Array:
    """Latents `[num, D]` of the mixtures of these labels `[num]`.

    A temperature multiplies the deviations of each Gaussian from its mean.
    """
    del classes  # as many as there are mixtures
    which, noise = jax.random.split(key)
    weights = jnp.asarray(arrays["weights"])[labels]
    component = jax.random.categorical(which, jnp.log(weights))
    means = jnp.asarray(arrays["means"])[labels, component]
    normal = np.asarray(jax.random.normal(noise, means.shape))
    normal = normal if temperature is None else normal * np.asarray(temperature)
    out = np.asarray(means).copy()
    # One product for each Gaussian: gathered factors would be `[num, D, D]`.
    chosen = np.asarray(component)
    for label, k in sorted(set(zip(labels.tolist(), chosen.tolist(), strict=True))):
        rows = (labels == label) & (chosen == k)
        out[rows] += normal[rows] @ arrays["factors"][label, k].T
    return jnp.asarray(out)
