"""Networks of other frameworks, and pure functions, as bodies of encoder or decoder.

A body is a Linen module, because training, checkpoints, averages, studies and exports
go through Linen's variables. `Adapted` is the one module that holds the arrays of any
other network: its parameters as the module's own, under their names, and the running
statistics of its norms in `batch_stats`. (`flax.nnx.bridge.ToLinen` keeps the structure
of an NNX module among the variables as well, and a checkpoint is only arrays.)
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from vaejax.errors import InputError
from vaejax.nn.layers import batch_axis, hidden_dtype
from vaejax.types import Array, Key

NAME = "network"
"""The name of the arrays within the variables of the module."""
COLLECTIONS = ("params", "batch_stats")


class Arrays(NamedTuple):
    """The arrays of a network: two trees of any structure.

    `params` are trained and floating; `stats` are what passes of training leave behind,
    such as the running averages of a norm.
    """

    params: Any
    stats: Any = ()


class Foreign(Protocol):
    """A network as pure functions; a frozen dataclass, so that models are hashable.

    `inputs` are x `[batch, ...]`, or z, and for a conditional encoder c `[batch,
    conditions]`. Both methods are traced, and may be called many times.
    """

    def init(self, key: Key, *inputs: Array) -> Arrays:
        """Draws the arrays before training.

        Args:
          key: of the initial values.
          inputs: a batch, of which only the shapes matter.

        Returns:
          The arrays, in the structure that `apply` takes.
        """
        ...

    def apply(
        self, arrays: Arrays, *inputs: Array, key: Key | None, update: bool
    ) -> tuple[Array, Any]:
        """Computes the features of a batch, or the output of a decoder.

        Args:
          arrays: as `init` draws them.
          inputs: a batch.
          key: of dropout; None where nothing may be dropped.
          update: whether to normalize by the statistics of this batch, and to update
            the running ones; else those are used as they are.

        Returns:
          The output `[batch, ...]`, and the statistics after the pass.
        """
        ...


class Adapted(nn.Module):
    """A foreign network as the body of an encoder, or with a `shape` of a decoder.

    An encoder body maps `[batch, ...]` to features `[batch, ...]`. A decoder body maps
    z `[..., latents]` to `[..., *shape]`: the network sees z as `[n, latents]`, and
    gives `[n, *shape]`, or flat `[n, product of shape]`.

    Dropout, and the statistics of norms, are by permission as in vaejax's own layers.
    Where hidden layers compute in bfloat16, the network gets its parameters and inputs
    in bfloat16, and its output becomes float32. A norm's running averages move as the
    network says, also where those of vaejax follow averaged parameters (`--ema`).

    Attributes:
      network: the network, hashable.
      shape: of an example as the decoder gives it; None makes the body of an encoder.

    Raises:
      InputError: when it is first called with a batch: a parameter is not floating, two
        arrays have one name, the output is of another shape, or statistics would be of
        a part of a batch.
    """

    network: Foreign
    shape: Sequence[int] | None = None

    def features(self, x: Array, c: Array | None = None) -> tuple[Array, ...]:
        """The input and the output: the layers between are not known."""
        return (x, self(x, c))

    @nn.compact
    def __call__(self, x: Array, c: Array | None = None) -> Array:
        lead = x.shape[:1] if self.shape is None else x.shape[:-1]
        rows = x if len(lead) == 1 else x.reshape(-1, x.shape[-1])
        inputs = (rows,) if c is None else (rows, c)
        y = check_output(self._run(inputs), rows.shape[0], self.shape)
        return y if self.shape is None else y.reshape(*lead, *self.shape)

    def _run(self, inputs: tuple[Array, ...]) -> Any:
        """The network's output, by its arrays among the module's variables."""
        structure = jax.eval_shape(self.network.init, jax.random.key(0), *inputs)
        check_parameters(structure.params)
        self._create(structure, inputs)
        params, stats = map(self._stored, COLLECTIONS, structure)
        update = self._updates(structure.stats)
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        dtype = hidden_dtype()
        arrays = Arrays(cast_floating(params, dtype), stats)
        given = cast_floating(inputs, dtype)
        y, after = self.network.apply(arrays, *given, key=key, update=update)
        if update:
            self.put_variable("batch_stats", NAME, named_arrays(after))
        return y if dtype is None else cast_floating(y, jnp.float32)

    def _create(self, structure: Arrays, inputs: tuple[Array, ...]) -> None:
        """Draws the arrays, where the variables are being made."""
        held = zip(COLLECTIONS, structure, strict=True)
        lacks = {
            name: bool(jax.tree.leaves(tree)) and not self.has_variable(name, NAME)
            for name, tree in held
        }
        if not self.is_initializing() or not any(lacks.values()):
            return
        drawn = self.network.init(self.make_rng("params"), *inputs)
        for name, tree in zip(COLLECTIONS, drawn, strict=True):
            if lacks[name]:
                self.put_variable(name, NAME, named_arrays(tree))

    def _stored(self, collection: str, structure: Any) -> Any:
        """The arrays of a collection, in the network's own structure."""
        if not jax.tree.leaves(structure):
            return structure
        return by_structure(self.get_variable(collection, NAME), structure)

    def _updates(self, stats: Any) -> bool:
        """Whether this pass may update statistics; InputError where it cannot."""
        updates = self.is_mutable_collection("batch_stats") and bool(
            jax.tree.leaves(stats)
        )
        if updates and batch_axis():
            raise InputError(
                "a network of another framework would take its statistics of each "
                "device's part of a batch alone: use --parallel jit"
            )
        return updates and not self.is_initializing()


def cast_floating(tree: Any, dtype: Any) -> Any:
    """A tree whose floating arrays are of a dtype; None leaves it as it is."""
    if dtype is None:
        return tree

    def cast(leaf: Array) -> Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def leaf_name(path: Any) -> str:
    """The name of an array in a tree, as layers/0/weight."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "value"


def named_arrays(tree: Any) -> dict[str, Any]:
    """The arrays of a tree as dicts within dicts, which is all that files hold."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    flat = {leaf_name(path): strongly_typed(leaf) for path, leaf in leaves}
    above = {name[:n] for name in flat for n, sign in enumerate(name) if sign == "/"}
    if len(flat) < len(leaves) or above & flat.keys():
        twice = ", ".join(sorted(above & flat.keys())) or "two arrays"
        raise InputError(f"a network's arrays need names of their own: {twice}")
    return unflatten_dict(flat, sep="/")


def strongly_typed(leaf: Any) -> Array:
    """An array of a dtype of its own, which that of a Python number is not."""
    return jnp.asarray(leaf, jnp.result_type(leaf))


def by_structure(named: Any, structure: Any) -> Any:
    """What `named_arrays` made of a tree of this structure, as that tree."""
    flat = flatten_dict(named, sep="/")
    paths, treedef = jax.tree_util.tree_flatten_with_path(structure)
    return treedef.unflatten([flat[leaf_name(path)] for path, _ in paths])


def check_parameters(params: Any) -> None:
    """InputError where an array is none that a gradient could move."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"{leaf_name(path)} is {leaf.dtype}{list(leaf.shape)}, and parameters "
                "are floating: make what is not trained a NumPy array, or no array"
            )


def check_output(y: Any, rows: int, shape: Sequence[int] | None) -> Array:
    """The output; InputError where it is no array of the shape that a body gives."""
    found = y.shape if isinstance(y, jax.Array) else type(y).__name__
    if shape is None:
        if isinstance(y, jax.Array) and y.ndim >= 2 and y.shape[0] == rows:
            return y
        raise InputError(
            f"an encoder's network gives {found}: [batch, features] wanted"
        )
    wanted = tuple(shape), (math.prod(shape),)
    if isinstance(y, jax.Array) and y.shape[0] == rows and y.shape[1:] in wanted:
        return y
    raise InputError(
        f"a decoder's network gives {found} for {rows} latents: {[rows, *shape]} "
        "wanted, channels last, or the same flat"
    )


@dataclasses.dataclass(frozen=True)
class Functions:
    """A pair of pure functions as a foreign network; see `from_functions`."""

    make: Callable[..., Any]
    call: Callable[..., Array]
    draws: bool

    def init(self, key: Key, *inputs: Array) -> Arrays:
        return Arrays(self.make(key, *inputs))

    def apply(
        self, arrays: Arrays, *inputs: Array, key: Key | None, update: bool
    ) -> tuple[Array, Any]:
        del update
        named = {"key": key} if self.draws else {}
        return self.call(arrays.params, *inputs, **named), ()


def from_functions(
    init: Callable[..., Any],
    apply: Callable[..., Array],
    *,
    draws: bool = False,
    shape: Sequence[int] | None = None,
) -> Adapted:
    """A body of two pure functions, as those of Haiku, Flax or plain JAX.

    Args:
      init: `init(key, x)` gives the parameters: floating arrays in any tree.
      apply: `apply(params, x)` gives the output; of a conditional encoder both get the
        condition `[batch, conditions]` after x. A preset that defines them in
        each call has them compiled each time: define them once.
      draws: whether to call `apply(params, x, key=key)`, where key is None unless the
        network may drop.
      shape: of an example as a decoder gives it; None makes the body of an encoder.

    Returns:
      The body, for `Bodies` or for a model's encoder or decoder.
    """
    return adapted(Functions(init, apply, draws), shape)


def adapted(network: Foreign, shape: Sequence[int] | None) -> Adapted:
    """The body; InputError where the network is not hashable."""
    try:
        hash(network)
    except TypeError as error:
        raise InputError(
            f"{error}: compiled functions are found by their model, so the arguments "
            "of a network must be hashable, as tuples are"
        ) from None
    return Adapted(network, None if shape is None else tuple(shape))
