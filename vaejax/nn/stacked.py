"""Equal blocks of a deep hierarchy in a loop, whose body is compiled once.

The tree of parameters stays that of separate modules: their parameters are stacked
where a model is applied, and the gradient's way back takes them apart again.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vaejax.nn.layout import Layout
from vaejax.types import Array


def up_runs(layout: Layout, scan: bool) -> list[range]:
    """The encoder's blocks in parts of equal ones; of one each without `scan`."""
    up = layout.up
    return runs(len(up), lambda n: scan and up[n] == up[n - 1] and up[n].rate == 1)


def down_runs(layout: Layout, scan: bool) -> list[range]:
    """The decoder's blocks in parts of equal ones; of one each without `scan`.

    One that mixes in a map does so before all else, and hence may begin a part. The
    first of all is by itself: there are no draws above it.
    """
    down = layout.down

    def follows(n: int) -> bool:
        return scan and n > 1 and not down[n].mixes and down[n].side == down[n - 1].side

    return runs(len(down), follows)


def runs(count: int, follows: Callable[[int], bool]) -> list[range]:
    """Numbers below `count` in parts; one ends where the next does not follow."""
    starts = [n for n in range(count) if n == 0 or not follows(n)]
    return [range(*each) for each in itertools.pairwise([*starts, count])]


def stack_params(blocks: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    """The parameters of the (bound) layers of equal blocks: an axis of blocks in front.

    The copy is one pass over them in a step, and one over their gradients: little
    beside convolutions, which read them for each example.
    """
    trees = [tuple(layer.variables["params"] for layer in block) for block in blocks]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def with_params(
    layers: Iterable[Any], params: Iterable[Any]
) -> list[Callable[..., Any]]:
    """The (unbound) layers of a block as functions, at the parameters of each."""
    pairs = zip(layers, params, strict=True)
    return [partial(layer.apply, {"params": own}) for layer, own in pairs]


def loop_over_blocks(
    body: Callable[[Array, Any], tuple[Array, Any]], x: Array, each: Any, remat: bool
) -> tuple[Array, Any]:
    """`lax.scan`, whose steps are recomputed for the gradient where `remat` says so."""
    # Within a loop XLA cannot merge what is computed again with what was.
    step = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jax.lax.scan(step, x, each)


def unstacked(tree: Any, count: int) -> list[Any]:
    """The parts of a tree along its leading axis."""
    return [jax.tree.map(lambda leaf, n=n: leaf[n], tree) for n in range(count)]
