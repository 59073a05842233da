"""The queries of a model that are exported, as functions of named arrays."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax.apply import query
from vaejax.apply.capabilities import weighs
from vaejax.apply.inputs import blank_batch
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.models import (
    conditional,
    conditions_of,
    draws_latents,
    encodes,
    generates,
)
from vaejax.types import Array

PRNG = "threefry2x32"
Values = Mapping[str, Array]
Answer = Callable[[Experiment, TrainState, Values], Any]


class ExportedQuery(NamedTuple):
    """A query to export, with named arguments."""

    answer: Answer
    arguments: tuple[str, ...]


def functions(
    experiment: Experiment, state: TrainState, samples: int
) -> dict[str, ExportedQuery]:
    """Those that the model has, with what each is given; InputError where none."""
    model = experiment.model
    batch = jax.eval_shape(lambda: blank_batch(experiment))
    context = tuple(name for name in conditions_of(model) if name != "y")
    label = ("y",) if conditional(model) else ()
    mask = ("mask",) if "mask" in batch else ()
    found = {}
    if encodes(model):
        found["encode"] = ExportedQuery(export_encode, ("x", *label, *context, *mask))
    if draws_latents(model):
        found["decode"] = ExportedQuery(export_decode, ("z", *label, *context))
    if generates(model):
        count = context or ("y",)
        given = dict.fromkeys((*label, *count))
        found["sample"] = ExportedQuery(export_sample, ("key", *given))
    if weighs(experiment, state):
        answer = partial(export_log_likelihood, samples)
        given = ("x", "key", *label, *context, *mask)
        found["log_likelihood"] = ExportedQuery(answer, given)
    if not found:
        raise InputError(f"{experiment.name} neither encodes nor generates")
    return found


def export_encode(experiment: Experiment, state: TrainState, values: Values) -> Any:
    """Mean and standard deviation of q(z | x)."""
    q: Any = query.encode(experiment, state, zero_unobserved(values), given(values))
    return {"mean": q.mean, "scale": jnp.sqrt(q.variance)}


def export_decode(experiment: Experiment, state: TrainState, values: Values) -> Array:
    """E[x | z]."""
    return query.decode(experiment, state, values["z"], given(values))


def export_sample(experiment: Experiment, state: TrainState, values: Values) -> Array:
    """As many examples as there are labels or contexts."""
    labels = {"y": values["y"]} if "y" in values else {}
    known = given(values) | labels
    count = next(iter(known.values())).shape[0]
    return query.sample(experiment, state, generator_key(values), count, given=known)


def export_log_likelihood(
    samples: int, experiment: Experiment, state: TrainState, values: Values
) -> Array:
    """log p(x), nats."""
    return query.log_likelihood(
        experiment,
        state,
        zero_unobserved(values),
        generator_key(values),
        samples,
        given(values),
    )


def generator_key(values: Values) -> Array:
    """The key, of a generator that is named, whatever JAX is configured to use."""
    return jax.random.wrap_key_data(values["key"], impl=PRNG)


def given(values: Values) -> dict[str, Array]:
    """The conditions and the observed entries among the arguments."""
    names = ("y", "context", "seen", "mask")
    return {name: values[name] for name in names if name in values}


def zero_unobserved(values: Values) -> Array:
    """x, and 0 where it is not observed, whatever is there."""
    x = values["x"]
    return jnp.where(values["mask"] == 1, x, 0) if "mask" in values else x
