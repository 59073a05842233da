"""A fitted sampler: arrays, what they are of, and its draws of latents."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from vaejax.errors import InputError, nearest
from vaejax.experiment import TrainState, variables_of
from vaejax.samplers import mixture
from vaejax.samplers.second_stage import draw_second, flow_model, two_stage_model
from vaejax.training.checkpoint import leaf_digests
from vaejax.types import Array, Key

Fitted = Literal["gmm", "flow", "two_stage"]
"""The kinds of samplers that are fitted."""
SamplerName = Literal["prior", "gmm", "flow", "two_stage"]
"""The names in settings: those, and the prior of the model itself."""
FITTED = get_args(Fitted)


class Sampler(NamedTuple):
    """A density of the latents that `decode` takes, fitted to those of training data.

    Of a model that is conditioned on labels it is one density for each label.
    """

    kind: Fitted
    shape: tuple[int, ...]
    """Shape of one example's latents."""
    classes: int
    """Number of labels, each with its density; 0: one density for all."""
    arrays: Mapping[str, np.ndarray]
    """All that was fitted, by name."""
    model_digest: str
    """`state_digest` of the model whose encodings it was fitted to."""

    def draw(
        self,
        key: Key,
        num: int,
        y: Any = None,
        temperature: float | Array | None = None,
    ) -> Array:
        """Latents `[num, *shape]`; of a conditional model those of labels y `[num]`.

        A temperature multiplies the standard deviations of the Gaussians of gmm, of the
        base of flow, and of prior and decoder of two_stage.

        Raises:
          InputError: there are densities of labels, and y are no labels of examples.
        """
        labels = self._labels(num, y)
        draw = DRAWS[self.kind]
        flat = draw(self.arrays, self.classes, key, labels, temperature)
        return jnp.reshape(flat, (num, *self.shape))

    def _labels(self, num: int, y: Any) -> np.ndarray:
        if not self.classes:
            return np.zeros(num, np.int32)
        y = np.asarray(y)
        known = y.ndim == 1 and y.dtype.kind in "iu" and len(y) == num
        if not known or not np.isin(y, np.arange(self.classes)).all():
            raise InputError(
                f"sampler {self.kind!r} has one density for each label: give each "
                f"example a label of 0 to {self.classes - 1}, not shares of several"
            )
        return y.astype(np.int32)


class Drawing(NamedTuple):
    """The density that latents of samples are drawn from, and its temperature."""

    sampler: Sampler | None = None
    """A fitted density; None for the model's prior."""
    temperature: float | None = None
    """As `sample` takes it."""


AS_MODELLED = Drawing()
"""From the prior, as it is."""

DRAWS = {
    "gmm": mixture.draw_gmm,
    "flow": partial(draw_second, flow_model),
    "two_stage": partial(draw_second, two_stage_model),
}
"""Functions of arrays, classes, a key, labels `[num]` and a temperature to latents."""


def check_sampler_name(kind: Any) -> None:
    """InputError where there is no such kind of fitted sampler."""
    if kind not in FITTED:
        raise InputError(f"no sampler {kind!r}: {nearest(str(kind), FITTED)}")


def state_digest(state: TrainState) -> str:
    """blake2b of the digests of the variables in use, 16 hexadecimal digits."""
    leaves = sorted(leaf_digests(variables_of(state)).items())
    return hashlib.blake2b(repr(leaves).encode(), digest_size=8).hexdigest()


def check_sampler_of(sampler: Sampler, state: TrainState) -> None:
    """InputError where the sampler was fitted to encodings of another state."""
    if sampler.model_digest != state_digest(state):
        raise InputError(
            f"this {sampler.kind} was fitted to the encodings of other parameters: fit "
            "it to these by vaejax.fit_sampler"
        )
