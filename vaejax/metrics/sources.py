"""Functions that make features of examples, and samples of a run seen through them.

A `FeatureSource` sees data and samples alike, in the data's own units: images as uint8
grey levels 0 to 255, rows of tables in their columns' units. Its name ends the names of
the numbers, which compare where the name is the same.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.apply.capabilities import require_generator
from vaejax.apply.query import sample
from vaejax.data.feed import permutation
from vaejax.data.kinds import kind_of, require_images
from vaejax.data.spec import Spec
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState
from vaejax.metrics.features import compare_features
from vaejax.nn.networks import ConvEncoder
from vaejax.runtime.limits import check_count, check_seed
from vaejax.samplers.record import AS_MODELLED, Drawing, Sampler
from vaejax.training.evaluator import conditions_to_generate
from vaejax.types import Array

CHUNK = 500
"""Examples that are drawn and seen at once."""
CHANNELS, OUTPUTS = (32, 64, 128), 64
"""Widths of the random network: few outputs, so that few examples have a covariance."""


class FeatureSource(NamedTuple):
    """What sees examples, and what its numbers are called."""

    name: str
    extract: Callable[[np.ndarray], Any]
    """From examples `[n, *shape]` in the data's units to features `[n, features]`."""
    digest: str = ""
    """Of its weights, where it has any."""
    renamed: Mapping[str, str] = MappingProxyType({})
    """Names of numbers that have one of their own, by `NUMBER_SOURCE`."""


def compare_samples(
    experiment: Experiment,
    state: TrainState,
    features: Any,
    *,
    name: str = "own",
    num: int = 10_000,
    seed: int = 0,
    sampler: Sampler | None = None,
    temperature: float | None = None,
    real: np.ndarray | None = None,
) -> dict[str, float | str | int]:
    """Distances of `num` samples (the model's means E[x | z]) to test examples.

    Conditional models are given labels in turn, or the contexts of test examples.

    Args:
      experiment: what was trained.
      state: its parameters.
      features: a source, as `random_features` returns one, or any function from
        examples `[n, *shape]` in the data's own units (uint8 images) to features
        `[n, features]`.
      name: the name of a function's features, at the end of the numbers' names.
      num: samples; they are compared with as many test examples as there are, at most
        so many.
      seed: of the samples.
      sampler: the density that latents are drawn from instead of the prior.
      temperature: of the samples, as `sample` takes it.
      real: features of the test examples, where they are known already.

    Returns:
      The numbers of `compare_features`, `generated_NAME` and `compared_with_NAME`,
      which they depend on, and `NAME_digest` of a source with weights.

    Raises:
      InputError: the model generates nothing, the data has holes, or features cannot be
        compared.
    """
    check_count("num", num, 2)
    check_seed("seed", seed)
    require_generator(experiment)
    source = (
        features
        if isinstance(features, FeatureSource)
        else source_of_function(name, features)
    )
    if real is None:
        real = features_of(source, pieces_of(held_out_units(experiment, num)))
    restore = experiment.preprocess.restore
    drawing = Drawing(sampler, temperature)
    drawn = drawn_samples(experiment, state, num, seed, drawing=drawing)
    generated = features_of(source, map(restore, drawn))
    found = compare_features(real, generated, source.name)
    digest = {f"{source.name}_digest": source.digest} if source.digest else {}
    return {
        **{source.renamed.get(name, name): value for name, value in found.items()},
        f"generated_{source.name}": num,
        f"compared_with_{source.name}": len(real),
        **digest,
    }


def source_of_function(name: str, function: Any) -> FeatureSource:
    """A user's function as a source; InputError where its name ends no number's."""
    if not callable(function):
        raise InputError(
            f"features are a {type(function).__name__}: give a function of examples, "
            "or arrays to compare_features"
        )
    if not name.isidentifier():
        raise InputError(f"name is {name!r}: give letters, digits and underscores")
    return FeatureSource(name, function)


def features_of(source: FeatureSource, parts: Iterator[np.ndarray]) -> np.ndarray:
    """Features of all parts; InputError where there is not a row for each example."""
    rows = []
    for part in parts:
        found = np.asarray(source.extract(part))
        if found.ndim != 2 or len(found) != len(part):
            raise InputError(
                f"features {source.name} of {len(part)} examples have shape "
                f"{list(found.shape)}: return [examples, features]"
            )
        rows.append(found)
    return np.concatenate(rows)


def drawn_samples(
    experiment: Experiment,
    state: TrainState,
    num: int,
    seed: int,
    chunk: int = CHUNK,
    drawing: Drawing = AS_MODELLED,
) -> Iterator[np.ndarray]:
    """`num` samples E[x | z] in the model's units, `chunk` at a time."""
    given = conditions_to_generate(experiment, num)
    root = jax.random.key(seed)
    for start in range(0, num, chunk):
        some = {n: array[start : start + chunk] for n, array in given.items()}
        key, count = jax.random.fold_in(root, start), min(chunk, num - start)
        x = sample(experiment, state, key, count, given=some, **drawing._asdict())
        yield np.asarray(x)


def pieces_of(x: np.ndarray, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """The examples, `chunk` at a time."""
    return (x[start : start + chunk] for start in range(0, len(x), chunk))


def held_out_units(experiment: Experiment, num: int) -> np.ndarray:
    """At most `num` test examples in the data's own units, without the noise of
    preprocessing: the first of a fixed permutation, as splits may be ordered.
    """
    dataset = experiment.dataset
    spec = dataset.spec
    if spec.masked:
        raise InputError(
            f"{spec.name} has holes, so that samples have nothing to be compared with"
        )
    index = permutation(dataset.size("test"), seed=0, epoch=0)[:num]
    x = dataset.some("test", index)["x"].reshape(-1, *spec.shape)
    if kind_of(spec).scaled:
        x = x.astype(np.float32) / (spec.levels - 1)
    return experiment.preprocess.restore(x)


class RandomNetwork(nn.Module):
    """Convolutions and a linear layer, for weights that are never trained."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        maps = ConvEncoder(CHANNELS, hidden=None)(x.astype(jnp.float32) / 127.5 - 1)
        return nn.Dense(OUTPUTS)(maps.reshape(len(maps), -1))


def random_features(spec: Spec, seed: int = 0) -> FeatureSource:
    """Features of images by a convolutional network with random weights.

    They need nothing that is trained, and see what a classifier of other data may not
    [Naeem et al. 2020, sec. 5.1]. Weights are uniform with the variance of
    [He et al. 2015, eq. 10], made of integers of NumPy's PCG64: the same everywhere, to
    the bit.

    Args:
      spec: of the data: the network is of its height, width and channels.
      seed: of the weights.

    Returns:
      A source called `random_` and six digits of its digest, which depends on seed,
      shape and network: numbers compare where the name is the same.

    Raises:
      InputError: the data are no images.
    """
    require_images(spec, "the random features", ": give your own as an .npz file")
    check_seed("seed", seed)
    network: Any = RandomNetwork()
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, *spec.shape))
    )
    digest = hashlib.blake2b(digest_size=8)

    def weight(path: Any, leaf: Any) -> np.ndarray:
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else np.inf
        numbers = rng.random(leaf.shape, np.float32) * 2 - 1
        found = numbers * np.float32(np.sqrt(6 / fan_in))
        digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}".encode())
        digest.update(found.tobytes())
        return found

    variables = jax.tree_util.tree_map_with_path(weight, shapes)
    see = parallel.compile_verb(network, "__call__")
    text = digest.hexdigest()
    return FeatureSource(f"random_{text[:6]}", lambda x: see(variables, x), text)
