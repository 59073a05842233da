"""A causal Transformer over sequences of codes, and its cache for sampling.

A sequence is `[rows, length]` of whole numbers below `vocabulary`. Where a place of a
map has several levels (those of a residual quantizer), these follow one another, and
each level has an embedding and an output of its own. At place t the network sees what
is before t and gives the logits of what is at t, so that a start token stands first. A
condition, if there is one, is added to the tokens of all places.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from vaejax.errors import InputError, require
from vaejax.nn.layers import Dropout, hidden_dtype
from vaejax.types import Array, Size

SPREAD = 0.02
"""Standard deviation of embeddings and kernels at first [Radford et al. 2019, code]."""


class KeyValues(NamedTuple):
    """Keys and values of one block at the places so far; zeros at those to come."""

    keys: Float[Array, "rows length heads size"]
    values: Float[Array, "rows length heads size"]


Cache = tuple[KeyValues, ...]
"""Keys and values of all blocks, from the first one."""


class SelfAttention(nn.Module):
    """Attention with several heads within a sequence [Vaswani et al. 2017, sec. 3.2].

    With `causal` a place attends to itself and to those before it. `spread` is the
    standard deviation of the last kernel at first.
    """

    width: int
    heads: int
    causal: bool = True
    spread: float = SPREAD

    def setup(self) -> None:
        if self.width % self.heads:
            raise InputError(
                f"{self.heads} heads cannot share a width of {self.width}: choose a "
                "width that the number of heads divides"
            )
        dtype, size = hidden_dtype(), self.width // self.heads
        self.project = nn.DenseGeneral(
            (3, self.heads, size),
            kernel_init=nn.initializers.normal(SPREAD),
            dtype=dtype,
        )
        self.merge = nn.DenseGeneral(
            self.width,
            (-2, -1),
            kernel_init=nn.initializers.normal(self.spread),
            dtype=dtype,
        )

    def __call__(self, x: Float[Array, "rows length width"]) -> Array:
        q, k, v = self._parts(x)
        return self.merge(jax.nn.dot_product_attention(q, k, v, is_causal=self.causal))

    def step(
        self, x: Float[Array, "rows 1 width"], place: Array, cache: KeyValues
    ) -> tuple[Array, KeyValues]:
        """The output at one place, and the cache with that place."""
        q, k, v = self._parts(x)
        keys, values = (
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), place, 1)
            for old, new in zip(cache, (k, v), strict=True)
        )
        seen = (jnp.arange(keys.shape[1]) <= place)[None, None, None]
        h = jax.nn.dot_product_attention(
            q, keys.astype(q.dtype), values.astype(q.dtype), mask=seen
        )
        return self.merge(h), KeyValues(keys, values)

    def _parts(self, x: Array) -> tuple[Array, ...]:
        """Queries, keys and values, `[rows, length, heads, size]` each."""
        return tuple(jnp.moveaxis(self.project(x), -3, 0))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) [Xiong et al. 2020, pre-norm]."""

    width: int
    heads: int
    dropout: float = 0.0
    spread: float = SPREAD

    def setup(self) -> None:
        dtype = hidden_dtype()
        self.attention = SelfAttention(self.width, self.heads, spread=self.spread)
        self.norms = [nn.LayerNorm(dtype=dtype) for _ in range(2)]
        self.widen = nn.Dense(
            4 * self.width, kernel_init=nn.initializers.normal(SPREAD), dtype=dtype
        )
        self.narrow = nn.Dense(
            self.width, kernel_init=nn.initializers.normal(self.spread), dtype=dtype
        )
        self.drop = Dropout(self.dropout)

    def __call__(self, x: Array) -> Array:
        return self._rest(x, self.attention(self.norms[0](x)))

    def step(self, x: Array, place: Array, cache: KeyValues) -> tuple[Array, KeyValues]:
        h, cache = self.attention.step(self.norms[0](x), place, cache)
        return self._rest(x, h), cache

    def _rest(self, x: Array, attended: Array) -> Array:
        """All that follows the attention, place by place."""
        x = x + self.drop(attended)
        h = nn.gelu(self.widen(self.norms[1](x)))
        return x + self.drop(self.narrow(h))


class CausalTransformer(nn.Module):
    """Logits of each code of a sequence, given those before it and a condition.

    The sizes are those of GPT-2 [Radford et al. 2019]: learned places, norms before
    each part and at the end, an inner width of 4 times the width, the last kernels of
    the parts scaled by the root of their number.
    """

    vocabulary: int
    length: int
    levels: int = 1
    width: int = 128
    depth: int = 4
    heads: int = 4
    dropout: float = 0.0

    def setup(self) -> None:
        require(self.length % self.levels == 0, "length", self.length, "whole places")
        normal, start = nn.initializers.normal(SPREAD), (self.width,)
        table = (self.levels, self.vocabulary, self.width)
        self.codes = self.param("codes", normal, table)
        self.places = self.param("places", normal, (self.length, self.width))
        self.begin = self.param("begin", normal, start)
        self.output = self.param("output", normal, table)
        self.bias = self.param("bias", nn.initializers.zeros, table[:2])
        self.embed_condition = nn.Dense(self.width, use_bias=False)
        self.drop = Dropout(self.dropout)
        self.norm = nn.LayerNorm(dtype=hidden_dtype())
        spread = SPREAD / math.sqrt(2 * self.depth)
        self.blocks = [
            TransformerBlock(self.width, self.heads, self.dropout, spread)
            for _ in range(self.depth)
        ]

    def __call__(
        self, codes: Int[Array, "rows length"], c: Array | None = None
    ) -> Float[Array, "rows length vocabulary"]:
        """Logits at all places, given the condition `c` `[rows, conditions]` or none.

        The last code has no influence.
        """
        first = self.start(codes.shape[0])[:, None]
        x = jnp.concatenate([first, self._embedded(codes)[:, :-1]], 1)
        x = self.drop(self._placed(x, self.places[None], c))
        for block in self.blocks:
            x = block(x)
        h = self.norm(x).reshape(codes.shape[0], -1, self.levels, self.width)
        logits = jnp.einsum("rplw,lkw->rplk", h.astype(jnp.float32), self.output)
        return (logits + self.bias[None, None]).reshape(*codes.shape, self.vocabulary)

    def start(self, rows: Size) -> Float[Array, "rows width"]:
        """The token in front of the sequence, as `step` takes it at place 0."""
        return jnp.broadcast_to(self.begin, (rows, self.width))

    def embed(
        self, codes: Int[Array, " rows"], place: Array
    ) -> Float[Array, "rows width"]:
        """The token of the codes at a place, as `step` takes it at the next one."""
        return self.codes[place % self.levels, codes]

    def step(
        self,
        token: Float[Array, "rows width"],
        place: Array,
        cache: Cache,
        c: Array | None = None,
    ) -> tuple[Float[Array, "rows vocabulary"], Cache]:
        """Logits at one place from the token before it, and the cache with it."""
        x = self._placed(token[:, None], self.places[place][None, None], c)
        after = []
        for block, known in zip(self.blocks, cache, strict=True):
            x, known = block.step(x, place, known)
            after.append(known)
        level = place % self.levels
        h = self.norm(x)[:, 0].astype(jnp.float32)
        return h @ self.output[level].T + self.bias[level][None], tuple(after)

    def empty_cache(self, rows: Size) -> Cache:
        """The cache before the first place."""
        shape = (rows, self.length, self.heads, self.width // self.heads)
        zeros = jnp.zeros(shape, hidden_dtype() or jnp.float32)
        return tuple(KeyValues(zeros, zeros) for _ in range(self.depth))

    def _placed(self, tokens: Array, places: Array, c: Array | None) -> Array:
        """Tokens `[rows, places, width]` that know their places and the condition."""
        x = tokens + places
        return x if c is None else x + self.embed_condition(c)[:, None]

    def _embedded(self, codes: Array) -> Array:
        """Tokens of whole sequences, `[rows, length, width]`."""
        levels = jnp.arange(self.length) % self.levels
        return self.codes[levels[None], codes]
