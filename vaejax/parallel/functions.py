"""Compiled functions of a trained model, and the fold of its metrics."""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.export import Exported, export
from jax.sharding import Mesh

from vaejax.data.feed import Feed, with_weight
from vaejax.data.preprocess import fingerprint
from vaejax.parallel.placement import replicated, rows
from vaejax.parallel.studies import Build
from vaejax.purposes import OfStep
from vaejax.types import Array, Key, Variables


def exact_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """Its matrix products in float32, which TPUs otherwise round to bfloat16."""

    @functools.wraps(function)
    def within(*arguments: Any, **named: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*arguments, **named)

    return within


@functools.cache
def compile_verb(model: nn.Module, verb: str) -> Callable[..., Any]:
    """A verb of a model as a compiled function of its variables and arguments."""
    return jax.jit(exact_products(partial(model.apply, method=verb)))


@functools.cache
def compile_function(
    function: Callable[..., Any], model: nn.Module, **settings: Any
) -> Callable[..., Any]:
    """`function(model, ...)` compiled, with its settings fixed."""
    return jax.jit(exact_products(partial(function, model, **settings)))


def portable(
    function: Callable[..., Any], platforms: Sequence[str], *shapes: Any
) -> Exported:
    """A function as one program for all platforms, compiled where it is called."""
    return export(jax.jit(exact_products(function)), platforms=platforms)(*shapes)


class BatchNumbers(NamedTuple):
    """Results of one batch of an evaluation."""

    accs: Any
    """The accumulators of all metrics, by name."""
    each: dict[str, Array]
    """Numbers of each example, `[batch]`: those that metrics average, its label where
    there is one, and its `fingerprint`; empty where they were not asked for."""


def compile_metric(
    build: Build, samples: int, feed: Feed, mesh: Mesh, each: bool = False
) -> Callable[
    [Any, Variables, Any, Array, Array, Key, Mapping[str, Any]], BatchNumbers
]:
    """One batch folded into the accumulators of all metrics.

    With `each`, the numbers of each example are given, too.
    """

    def update(
        accs: Any,
        variables: Variables,
        resident: Any,
        x: Any,
        weight: Array,
        key: Key,
        settings: Mapping[str, Any],
    ) -> BatchNumbers:
        experiment = build(settings)
        raw = with_weight(feed.select(resident, x), weight)
        batch = experiment.preprocess.apply(raw, jax.random.fold_in(key, OfStep.DATA))
        key = jax.random.fold_in(key, OfStep.PLAYERS)
        found, told = {}, {}
        for name, metric in experiment.metrics(samples).items():
            given = accs[name], experiment.model, variables, batch, key
            found[name], values = metric.update_each(*given)
            told |= values
        if not each:
            return BatchNumbers(found, {})
        label = {"label": raw["y"]} if "y" in raw else {}
        return BatchNumbers(found, told | label | {"seen": fingerprint(batch)})

    whole, split = replicated(mesh), rows(mesh)
    return jax.jit(
        exact_products(update),
        # None: parameters stay where they are, which need not be on all devices.
        in_shardings=(whole, None, whole, split, split, whole, whole),
        out_shardings=whole,
    )
