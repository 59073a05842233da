"""The words that every module shares."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import jax.typing

Array = jax.Array
ArrayLike = jax.typing.ArrayLike
Key = jax.Array
Batch = Mapping[str, Array]
Metrics = dict[str, Array]
Variables = Mapping[str, Any]
Size = int | Any  # of a batch; while a model is exported it is a symbol
Shape = int | tuple[int, ...]  # of latents: their number, or the axes of a map


def axes_of(shape: Shape) -> tuple[int, ...]:
    """The axes of latents of this shape."""
    return (shape,) if isinstance(shape, int) else shape


@runtime_checkable
class Distribution(Protocol):
    """The interface of a distribution; those of numpyro.distributions have it."""

    @property
    def batch_shape(self) -> tuple[int, ...]: ...

    @property
    def event_dim(self) -> int: ...

    # Not required of an instance: a flow has a density and draws, and no known mean.
    if TYPE_CHECKING:

        @property
        def mean(self) -> Array: ...

    def log_prob(self, value: Array) -> Array: ...

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array: ...

    def rsample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array: ...


# What a player minimizes: `objective(model, batch, key, **hyper) -> (loss, terms)`, a
# scalar in nats and what it is made of. `hyper` are the player's scheduled numbers.
Objective = Callable[..., tuple[Array, Metrics]]
