"""The words that every module shares."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
from numpyro.distributions import Distribution

Array = jax.Array
Key = jax.Array
Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Variables = Mapping[str, Any]


class LatentModel(Protocol):
    """A joint density p(x, z) with an approximate posterior q(z | x).

    The three verbs return distributions whose `log_prob` is elementwise: the caller
    sums where entries are observed. `batch` carries `x` and whatever the model
    conditions on.
    """

    def posterior(self, batch: Batch) -> Distribution:
        """q(z | x): batch shape `[batch, latents]`."""
        ...

    def prior(self, batch: Batch) -> Distribution:
        """p(z): batch shape `[batch, latents]`, or `[1, latents]` for one prior."""
        ...

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        """p(x | z) for `z` of shape `[samples, batch, latents]`."""
        ...


class Objective(Protocol):
    """What a player minimizes: a scalar loss in nats, and the terms it is made of."""

    def __call__(
        self, model: Any, batch: Batch, key: Key, **hyper: Any
    ) -> tuple[Array, Metrics]: ...
