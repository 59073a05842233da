"""Matrix products alone: the time that no step of a network can go below."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax.types import Array


class Product(NamedTuple):
    """A dense layer: `rows` times `inputs` by `inputs` times `outputs`."""

    rows: int
    inputs: int
    outputs: int
    trained: bool = True
    """Whether the gradient of its weights is taken."""
    passes: bool = True
    """Whether that of its input is: not of the first layer's, which is data."""

    def shapes(self) -> list[tuple[int, int]]:
        """Shapes of its input, its weights, and the gradient of its output."""
        rows, inputs, outputs = self[:3]
        return [(rows, inputs), (inputs, outputs), (rows, outputs)]


def products_of(
    rows: int,
    sizes: Iterable[tuple[int, int]],
    *,
    of_data: bool = False,
    trained: bool = True,
) -> list[Product]:
    """The products of a chain of layers, by their inputs and outputs.

    Args:
      rows: examples, times samples where there are several.
      sizes: inputs and outputs of each layer.
      of_data: whether the first layer reads data, which need no gradient.
      trained: whether there are gradients.
    """
    return [
        Product(rows, i, o, trained, trained and not (of_data and number == 0))
        for number, (i, o) in enumerate(sizes)
    ]


def compile_products(layers: Sequence[Product], repeats: int) -> Callable[[], Any]:
    """A call that computes all products `repeats` times: forward, and the gradients."""
    keys = iter(jax.random.split(jax.random.key(0), 3 * len(layers)))
    arrays = [
        tuple(
            jax.random.normal(next(keys), shape)
            for shape in (
                (p.rows, p.inputs),
                (p.inputs, p.outputs),
                (p.rows, p.outputs),
            )
        )
        for p in layers
    ]

    def products(scale: Array, arrays: Any) -> tuple[Array, Any]:
        out = []
        for p, (x, w, dy) in zip(layers, arrays, strict=True):
            x = x * scale  # else the loop computes it once
            out += [x @ w]
            out += [x.T @ dy] if p.trained else []
            out += [(dy * scale) @ w.T] if p.passes else []
        return scale * 1.0000001, out

    @jax.jit
    def repeated(arrays: Any) -> Any:
        def body(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
            return products(carry[0], arrays), None

        first = products(jnp.ones(()), arrays)
        return jax.lax.scan(body, first, None, length=repeats)[0]

    return lambda: repeated(arrays)


def wall_seconds(call: Callable[[], Any]) -> float:
    """Wall seconds of a call and of the arrays that it gives."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def fastest(call: Callable[[], Any], tries: int = 5) -> float:
    """Least seconds of a call, after one that compiles."""
    jax.block_until_ready(call())
    return min(wall_seconds(call) for _ in range(tries))
