"""NNX and Equinox modules as bodies: which of their arrays are parameters, which are
statistics, and how they are told what a pass may do.
"""

import dataclasses
import functools
import importlib.util
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vaejax.errors import InputError
from vaejax.nn.adapted import Adapted, Arrays, adapted
from vaejax.types import Array, Key


@dataclasses.dataclass(frozen=True)
class NNXNetwork:
    """An NNX module as a foreign network; see `from_nnx`."""

    make: Callable[..., Any]
    arguments: tuple[Hashable, ...]

    def init(self, key: Key, *inputs: Array) -> Arrays:
        del inputs
        return split_nnx(self.make(*self.arguments, rngs=nnx_rngs(key)))[1]

    def apply(
        self, arrays: Arrays, *inputs: Array, key: Key | None, update: bool
    ) -> tuple[Array, Any]:
        from flax import nnx

        graph, streams = graph_of(self)
        drawing = seeded(streams, jax.random.key(0) if key is None else key)
        module = nnx.merge(graph, arrays.params, arrays.stats, drawing)
        module.set_attributes(
            deterministic=key is None,
            use_running_average=not update,
            raise_if_not_found=False,
        )
        y = module(*inputs)
        _, after, drawn = split_nnx(module)
        if key is None and any(map(is_other, *map(jax.tree.leaves, (drawing, drawn)))):
            raise InputError(
                f"{type(module).__name__} draws random numbers where nothing may be "
                "drawn: let it draw only where its attribute `deterministic` is False"
            )
        return y, after.stats


def nnx_rngs(key: Key) -> Any:
    """All of a module's streams of random numbers, from one key."""
    from flax import nnx

    return nnx.Rngs(key)


def split_nnx(module: Any) -> tuple[Any, Arrays, Any]:
    """A module's structure, its arrays, and the state of its random streams.

    InputError where it holds arrays of another kind.
    """
    from flax import nnx

    kinds = nnx.Param, nnx.BatchStat, nnx.RngState, nnx.Intermediate
    graph, params, stats, streams, _, rest = nnx.split(module, *kinds, ...)
    if others := list(nnx.to_flat_state(rest)):
        (path, one), *_ = others
        raise InputError(
            f"{type(module).__name__} holds {type(one).__name__} at "
            f"{'/'.join(map(str, path))}: only Param, BatchStat and streams of random "
            "numbers have a place in a run"
        )
    arrays = Arrays(nnx.to_pure_dict(params), nnx.to_pure_dict(stats))
    return graph, arrays, nnx.to_pure_dict(streams)


@functools.cache
def graph_of(network: NNXNetwork) -> tuple[Any, Any]:
    """The structure of a network, and the shapes of its random streams."""
    found: list[Any] = []

    def trace(key: Key) -> Any:
        made = network.make(*network.arguments, rngs=nnx_rngs(key))
        graph, _, streams = split_nnx(made)
        found.append(graph)
        return streams

    streams = jax.eval_shape(trace, jax.random.key(0))
    return found[0], streams


def seeded(streams: Any, key: Key) -> Any:
    """Random streams at their beginning, each from a key of its own."""
    leaves, treedef = jax.tree.flatten(streams)
    begun = [
        jax.random.fold_in(key, number)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for number, leaf in enumerate(leaves)
    ]
    return treedef.unflatten(begun)


def is_other(before: Any, after: Any) -> bool:
    """Whether an array was replaced in a pass."""
    return before is not after


def from_nnx(
    make: Callable[..., Any],
    *arguments: Hashable,
    shape: Sequence[int] | None = None,
) -> Adapted:
    """A body of an NNX module that maps a batch `[batch, ...]` to `[batch, ...]`.

    Its `Param`s are trained; `BatchStat`s are the statistics of its norms; its dropout
    draws from keys of the run. A conditional encoder's is called with x and c.

    Args:
      make: the module's class, or a function: `make(*arguments, rngs=rngs)` makes it.
      arguments: hashable, such as widths.
      shape: of an example as a decoder gives it; None makes the body of an encoder.

    Returns:
      The body, for `Bodies` or for a model's encoder or decoder.

    Raises:
      InputError: `make` is a module that is made already, or an argument is not
        hashable; and, once it is called, the module holds variables of another kind,
        or draws random numbers where it may not.
    """
    check_maker("from_nnx", make)
    return adapted(NNXNetwork(make, arguments), shape)


@dataclasses.dataclass(frozen=True)
class EquinoxNetwork:
    """An Equinox module as a foreign network; see `from_equinox`."""

    make: Callable[..., Any]
    arguments: tuple[Hashable, ...]

    def init(self, key: Key, *inputs: Array) -> Arrays:
        del inputs
        return Arrays(split_equinox(self.make(*self.arguments, key=key))[0])

    def apply(
        self, arrays: Arrays, *inputs: Array, key: Key | None, update: bool
    ) -> tuple[Array, Any]:
        import equinox as eqx

        del update
        whole = eqx.combine(arrays.params, rest_of(self))
        module = eqx.nn.inference_mode(whole, value=key is None)
        if key is None or "key" not in inspect.signature(module.__call__).parameters:
            return jax.vmap(module)(*inputs), ()
        keys = jax.random.split(key, len(inputs[0]))
        return jax.vmap(lambda own, *one: module(*one, key=own))(keys, *inputs), ()


def split_equinox(module: Any) -> tuple[Any, Any]:
    """A module's arrays, and the rest of it; InputError where it has a state."""
    import equinox as eqx

    def stateful(node: Any) -> bool:
        return isinstance(node, eqx.nn.StateIndex)

    if any(map(stateful, jax.tree.leaves(module, is_leaf=stateful))):
        raise InputError(
            f"{type(module).__name__} keeps a state, as eqx.nn.BatchNorm does: use a "
            "norm without one, as eqx.nn.GroupNorm or LayerNorm"
        )
    return eqx.partition(module, eqx.is_array)


@functools.cache
def rest_of(network: EquinoxNetwork) -> Any:
    """All of a module but its arrays."""
    found: list[Any] = []

    def trace(key: Key) -> Any:
        arrays, rest = split_equinox(network.make(*network.arguments, key=key))
        found.append(rest)
        return arrays

    jax.eval_shape(trace, jax.random.key(0))
    return found[0]


def from_equinox(
    make: Callable[..., Any],
    *arguments: Hashable,
    shape: Sequence[int] | None = None,
) -> Adapted:
    """A body of an Equinox module, which is called with one example and mapped.

    Its arrays are trained, and must be floating. Where its `__call__` takes a `key`, it
    is given one where the network may drop; elsewhere it is in inference mode. A
    conditional encoder's is called with x and c.

    Args:
      make: the module's class, or a function: `make(*arguments, key=key)` makes it.
      arguments: hashable, such as widths.
      shape: of an example as a decoder gives it; None makes the body of an encoder.

    Returns:
      The body, for `Bodies` or for a model's encoder or decoder.

    Raises:
      InputError: Equinox is not installed, `make` is a module that is made already, or
        an argument is not hashable; and, once it is called, the module keeps a state.
    """
    if importlib.util.find_spec("equinox") is None:
        raise InputError("from_equinox needs Equinox: pip install equinox")
    check_maker("from_equinox", make)
    return adapted(EquinoxNetwork(make, arguments), shape)


def check_maker(name: str, make: Any) -> None:
    """InputError where a module is given instead of what makes it."""
    if not (
        inspect.isclass(make)
        or inspect.isroutine(make)
        or isinstance(make, functools.partial)
    ):
        raise InputError(
            f"{name} makes the network itself, with weights from the run's seed: give "
            "its class and its arguments, or a function"
        )
