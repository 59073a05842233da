"""Latents that are codes of a codebook: a point mass at one, and all codes alike."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float, Int

from vaejax.types import Array, Key

Codes = Int[Array, "*batch height width levels"]
"""Codes of each position of a map, in [0, size): one for each level of residuals."""
Map = Float[Array, "batch height width channels"]


def straight_through(inputs: Array, values: Array) -> Array:
    """`values`, whose gradient is that of `inputs` [Bengio et al. 2013].

    inputs + stop_gradient(values - inputs), in the order that does not round: the
    result is equal to `values`, bit for bit, and their own gradient is 0.
    """
    return jax.lax.stop_gradient(values) + (inputs - jax.lax.stop_gradient(inputs))


class Quantized(dist.Distribution):
    """A point mass at codes: q(z | x) of a quantized autoencoder, joint over a map.

    It is a probability mass, 1 at one of finitely many maps, so that log q(z) is 0.

    Args:
      inputs: what was quantized, `[batch, height, width, channels]`.
      entries: what each level's code stands for, `[batch, height, width, levels,
        channels]`; their sum over levels is the quantized map. A codebook that is
        learned by gradient has its gradient through them.
      codes: the code of each position and level.
      logits: of a soft choice of codes, `[batch, height, width, factors, values]`: a
        code is independent choices of its factors. None where there is no such choice.
      revived: dead codes that were replaced in this pass.
    """

    arg_constraints = {}
    pytree_data_fields = ("inputs", "entries", "codes", "logits", "revived")
    has_rsample: Any = True

    def __init__(
        self,
        inputs: Float[Array, "batch height width channels"],
        entries: Float[Array, "batch height width levels channels"],
        codes: Int[Array, "batch height width levels"],
        logits: Float[Array, "batch height width factors values"] | None = None,
        revived: Array | float = 0.0,
    ) -> None:
        self.inputs, self.entries, self.codes = inputs, entries, codes
        self.logits, self.revived = logits, jnp.asarray(revived, jnp.float32)
        super().__init__(inputs.shape[:1], inputs.shape[1:], validate_args=False)

    @property
    def values(self) -> Float[Array, "batch height width channels"]:
        """The quantized map, with the gradient of `inputs`."""
        return straight_through(self.inputs, self.entries.sum(-2))

    @property
    def residuals(self) -> Float[Array, "batch height width levels channels"]:
        """The input of each level: the map less the entries of the levels before."""
        before = jnp.cumsum(self.entries, -2) - self.entries
        return self.inputs[..., None, :] - jax.lax.stop_gradient(before)

    @property
    def mean(self) -> Array:
        return self.values

    @property
    def variance(self) -> Array:
        return jnp.zeros_like(self.inputs)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return jnp.broadcast_to(self.values, (*sample_shape, *self.inputs.shape))

    def log_prob(self, value: Array) -> Array:
        return jnp.zeros(value.shape[: value.ndim - self.event_dim])


class UniformCodes(dist.Distribution):
    """All codes alike: p(z) of a quantized autoencoder, joint over a map.

    log p(z) is -height width levels log(size) nats of every map of codes; whether a
    value is one is not looked at.

    Args:
      look_up: a pytree, `jax.tree_util.Partial`, that maps codes `[..., height, width,
        levels]` to values `[..., height, width, channels]`.
      size: number of codes.
      shape: `(batch, height, width, levels)`.
    """

    arg_constraints = {}
    pytree_data_fields = ("look_up",)
    pytree_aux_fields = ("size", "codes_shape")

    def __init__(
        self, look_up: Callable[[Array], Array], size: int, shape: tuple[Any, ...]
    ) -> None:
        self.look_up, self.size, self.codes_shape = look_up, size, shape
        probe = jax.ShapeDtypeStruct((1, *shape[1:]), jnp.int32)
        event = jax.eval_shape(look_up, probe).shape[1:]
        super().__init__(shape[:1], event, validate_args=False)

    def sample_codes(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Codes:
        """Codes of each position and level, drawn uniformly."""
        shape = (*sample_shape, *self.codes_shape)
        return jax.random.randint(key, shape, 0, self.size, jnp.int32)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.look_up(self.sample_codes(key, sample_shape))

    @property
    def mean(self) -> Array:
        """The mean of what all codes stand for, at each position."""
        count, (_, height, width, levels) = self.size, self.codes_shape
        codes = jnp.arange(count).reshape(-1, 1, 1, 1)
        every = jnp.broadcast_to(codes, (count, height, width, levels))
        mean = self.look_up(every).mean(0)
        return jnp.broadcast_to(mean, self.shape())

    def log_prob(self, value: Array) -> Array:
        nats = math.prod(self.codes_shape[1:]) * math.log(self.size)
        return jnp.full(value.shape[: value.ndim - self.event_dim], -nats)


class CodeBlocks(dist.Distribution):
    """Point masses at several maps of codes, side by side in one vector.

    Args:
      blocks: a `Quantized` for each map.
    """

    arg_constraints = {}
    pytree_data_fields = ("blocks",)
    has_rsample: Any = True

    def __init__(self, blocks: Sequence[Quantized]) -> None:
        self.blocks = tuple(blocks)
        size = sum(math.prod(each.event_shape) for each in self.blocks)
        super().__init__(self.blocks[0].batch_shape, (size,), validate_args=False)

    @property
    def codes(self) -> Int[Array, "batch 1 places 1"]:
        """All codes of an example in one row, map after map, levels innermost."""
        rows = [each.codes.reshape(len(each.codes), -1) for each in self.blocks]
        return jnp.concatenate(rows, -1)[:, None, :, None]

    @property
    def mean(self) -> Array:
        rows = [each.values.reshape(*self.batch_shape, -1) for each in self.blocks]
        return jnp.concatenate(rows, -1)

    @property
    def variance(self) -> Array:
        return jnp.zeros_like(self.mean)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        return jnp.broadcast_to(self.mean, (*sample_shape, *self.shape()))

    def log_prob(self, value: Array) -> Array:
        return jnp.zeros(value.shape[:-1])


@dataclasses.dataclass(frozen=True)
class RowOfCodes:
    """The vector of values that a row of the codes of several maps stands for.

    It is called with the look-up of each map, and the row `[..., 1, places, 1]`.
    """

    shapes: tuple[tuple[int, int, int], ...]
    """Height, width and levels of the codes of each map."""

    @property
    def places(self) -> int:
        """Number of codes in a row."""
        return sum(map(math.prod, self.shapes))

    def __call__(self, *given: Any) -> Array:
        *look_ups, codes = given
        ends = itertools.accumulate(map(math.prod, self.shapes))
        rows = jnp.split(codes[..., 0, :, 0], list(ends)[:-1], -1)
        lead = codes.shape[:-3]
        values = [
            look_up(row.reshape(*lead, *shape)).reshape(*lead, -1)
            for look_up, row, shape in zip(look_ups, rows, self.shapes, strict=True)
        ]
        return jnp.concatenate(values, -1)
