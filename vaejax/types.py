"""The words that every module shares."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.typing

Array = jax.Array
ArrayLike = jax.typing.ArrayLike
Key = jax.Array
Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Variables = Mapping[str, Any]
Size = int | Any  # of a batch; while a model is exported it is a symbol


@runtime_checkable
class Distribution(Protocol):
    """The interface of a distribution; those of numpyro.distributions have it."""

    @property
    def batch_shape(self) -> tuple[int, ...]: ...

    @property
    def event_dim(self) -> int: ...

    @property
    def mean(self) -> Array: ...

    def log_prob(self, value: Array) -> Array: ...

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array: ...

    def rsample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array: ...


@runtime_checkable
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
        """p(z): batch shape `[batch, latents]`."""
        ...

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        """p(x | z) for `z` of shape `[samples, batch, latents]`."""
        ...


@runtime_checkable
class MissingnessModel(LatentModel, Protocol):
    """A joint density p(x, z) p(m | x): it says why entries are missing, too."""

    def missingness(self, x: Array) -> Distribution:
        """p(m | x) for complete `x` `[samples, batch, ...]`: m = 1 is observed."""
        ...


# What a player minimizes: `objective(model, batch, key, **hyper) -> (loss, terms)`, a
# scalar in nats and what it is made of. `hyper` are the player's scheduled numbers.
Objective = Callable[..., tuple[Array, Metrics]]
