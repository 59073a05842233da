"""Two stages as one generator: a model of latents, and the model that decodes them."""

from typing import Any

import jax.numpy as jnp

from vaejax.inference.latents import Keys
from vaejax.models.base import Generator
from vaejax.types import Array, Batch, Distribution


class TwoStages(Generator):
    """x of the first stage's data, from latents that a second stage generates.

    `draw_prior` draws what the second stage generates from, which `decode` takes.
    """

    second: Any
    """A generator of codes or latents `[batch, *shape]`."""
    first: Any
    """The model of x whose latents these are."""
    shape: tuple[int, ...]
    """Shape of the latents of an example."""
    coded: bool
    """Whether they are codes, for `values_of` of the first stage."""
    mean: tuple[float, ...] = ()
    """Means of each entry of the last axis, by which the second stage standardizes."""
    scale: tuple[float, ...] = ()
    """Standard deviations alike."""

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Array:
        return self.second.draw_prior(self._inner(batch), keys, temperature)

    def decode(self, z: Array, batch: Batch) -> Distribution:
        return self._decoded(self.second.decode(z, self._inner(batch)), batch)

    def generate(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Distribution:
        inner = self._inner(batch)
        return self._decoded(self.second.generate(inner, keys, temperature), batch)

    def _inner(self, batch: Batch) -> Batch:
        """The batch of the second stage, whose x is read for its shape alone."""
        blank = jnp.zeros((batch["x"].shape[0], *self.shape))
        return {**{n: v for n, v in batch.items() if n == "y"}, "x": blank}

    def _decoded(self, latents: Any, batch: Batch) -> Distribution:
        """p(x | z) of the first stage at the latents that the second stage gives."""
        z = latents.mean
        if self.coded:
            return self.first.decode(self.first.values_of(z), batch)
        ones = (1,) * (z.ndim - 1)
        scale, mean = (
            jnp.asarray(each, z.dtype).reshape(*ones, -1)
            for each in (self.scale, self.mean)
        )
        return self.first.decode(z * scale + mean, batch)
