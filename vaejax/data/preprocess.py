"""From stored examples to what a model sees, on the device, as pure functions of keys.

A raw batch holds `x` flat as stored, `index` (the example's place in its split), `y`
where there are labels, `factors` where these are known, `noise` where x is the mean of
a Gaussian with these deviations and is to be drawn of it, and where there are holes
`mask` (1 = observed) and `hidden` (1 = hidden on purpose). A batch holds `x` in its own
shape and the model's units, 0 where it is not observed; what was hidden is in `truth`,
for measures alone.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.data.kinds import kind_of
from vaejax.data.levels import own_scale
from vaejax.data.spec import Spec
from vaejax.data.uniform import uniform
from vaejax.data.units import in_units
from vaejax.errors import InputError
from vaejax.types import Array, Batch, Key, Size

BINARIZE = ("dynamic", "static", "none")


class Preprocess(NamedTuple):
    """How data becomes a batch and back.

    `values` says what a likelihood must fit: binary, grey, dequantized, real, latent
    (standardized latents of another model) or codes.
    `log_bin` is the log width of one grey level in the model's units, which turns a
    density into bits/dim of the stored levels (0 where values are their own units).
    `derive(batch, shape)` adds the conditions that follow from the other entries of a
    query's batch, which has `x` where examples are given; `shape` is that of x.
    """

    apply: Callable[[Batch, Key], Batch]
    restore: Callable[[np.ndarray], np.ndarray]
    values: str
    log_bin: float
    derive: Callable[[Batch, tuple[Size, ...]], Batch] = lambda batch, shape: batch


def preprocess(
    spec: Spec, binarize: str = "none", dequantize: bool = False
) -> Preprocess:
    """The preprocessing of a dataset.

    Args:
      binarize: `dynamic` draws each pixel again at each access with its grey level as
        probability [Salakhutdinov & Murray 2008]; `static` draws once for each
        example, for ever; `none` keeps grey levels. Tables and binary images ignore it.
      dequantize: adds uniform noise within a grey level, x = (level + u) / levels, so
        that a density bounds the probability of the levels [Theis et al. 2016].
    """
    if binarize not in BINARIZE:
        raise InputError(f"--binarize {binarize}: choose of {', '.join(BINARIZE)}")
    kind = kind_of(spec)
    if not (kind.scaled or kind.named) and (binarize != "none" or dequantize):
        raise InputError(
            f"--binarize and --dequantize are of pictures: {spec.name} is a {spec.kind}"
        )
    if kind.coded:
        return code_map(spec)
    if kind.standardized:
        return table(spec, "real" if kind.named else "latent")
    if spec.levels == 2:
        return scaled(spec, lambda x, raw, key: x, "binary")
    if binarize != "none":
        return scaled(spec, binarizer(binarize), "binary")
    if dequantize:
        return scaled(spec, dequantizer(spec.levels), "dequantized", spec.levels)
    return scaled(spec, lambda x, raw, key: x, "grey", spec.levels - 1)


def code_map(spec: Spec) -> Preprocess:
    """Codes as they are stored, in the shape of their map."""
    return Preprocess(
        apply=lambda raw, key: {**raw, "x": raw["x"].reshape(-1, *spec.shape)},
        restore=lambda x: np.asarray(x).astype(np.int32),
        values="codes",
        log_bin=0.0,
    )


def table(spec: Spec, values: str = "real") -> Preprocess:
    """Standardized columns or channels, as stored; restored to their own units."""
    return Preprocess(
        apply=lambda raw, key: unseen(noisy(raw, key, spec)),
        restore=lambda x: in_units(x, spec),
        values=values,
        log_bin=0.0,
    )


def noisy(raw: Batch, key: Key, spec: Spec) -> dict[str, Array]:
    """The batch of a table, with Gaussian noise of the deviations `noise` if it has."""
    batch = dict(raw)
    x = batch["x"]
    if "noise" in batch:
        x = x + batch.pop("noise") * jax.random.normal(key, x.shape)
    return batch | {"x": x.reshape(-1, *spec.shape)}


def scaled(
    spec: Spec, change: Callable[[Array, Batch, Key], Array], values: str, bins: int = 1
) -> Preprocess:
    """Levels scaled to [0, 1], then `change(x, raw, key)`; restored to the scale on
    which pictures were given.
    """
    top = spec.levels - 1

    def apply(raw: Batch, key: Key) -> Batch:
        x = raw["x"].astype(jnp.float32) / top
        x = change(x, raw, key)
        return unseen({**raw, "x": x.reshape(-1, *spec.shape)})

    return Preprocess(
        apply, lambda x: own_scale(x, spec.pixels), values, -math.log(bins)
    )


def unseen(batch: dict[str, Array]) -> Batch:
    """Zeroes what is not observed, and keeps what was hidden on purpose in `truth`."""
    if "mask" not in batch:
        return batch
    x = batch["x"]
    for name in ("mask", "hidden"):
        if name in batch:
            batch[name] = batch[name].reshape(x.shape).astype(x.dtype)
    if "hidden" in batch:
        batch["truth"] = jnp.where(batch["hidden"] == 1, x, 0)
    # Not a product: what is stored in a hole may be anything.
    batch["x"] = jnp.where(batch["mask"] == 1, x, 0)
    return batch


def fingerprint(batch: Batch) -> Array:
    """A number of each example, `[batch]`, that tells inputs of a model apart.

    The product of what is observed, and of where, with random weights: equal up to
    rounding for equal inputs, and different, but for chance, for any others.
    """
    x = batch["x"]
    mask = batch.get("mask", jnp.ones_like(x))
    of_x, of_mask = jax.random.normal(jax.random.key(0), (2, *x.shape[1:]))
    products = x * of_x[None] + mask * of_mask[None]
    return products.reshape(len(x), -1).sum(1)


def binarizer(kind: str) -> Callable[[Array, Batch, Key], Array]:
    """Bernoulli draws with the grey level as probability."""

    def dynamic(x: Array, raw: Batch, key: Key) -> Array:
        return (uniform(key, x.shape) < x).astype(x.dtype)

    def static(x: Array, raw: Batch, key: Key) -> Array:
        del key  # the draw belongs to the example, not to the access
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), raw["index"])
        u = jax.vmap(lambda k: jax.random.uniform(k, x.shape[1:]))(keys)
        return (u < x).astype(x.dtype)

    return {"dynamic": dynamic, "static": static}[kind]


def dequantizer(levels: int) -> Callable[[Array, Batch, Key], Array]:
    """x = (level + u) / levels with u uniform on [0, 1)."""
    top = levels - 1
    return lambda x, raw, key: (x * top + uniform(key, x.shape)) / levels


def blank(spec: Spec, size: Size = 1) -> Batch:
    """A raw batch of zeros, with the shapes of the data: for initialization."""
    dtype = kind_of(spec).on_device
    raw = {
        "x": jnp.zeros((size, math.prod(spec.shape)), dtype),
        "index": jnp.zeros(size, jnp.int32),
    }
    if spec.classes:
        raw["y"] = raw["index"]
    if spec.factors:
        raw["factors"] = jnp.zeros((size, len(spec.factors)), jnp.int32)
    if spec.first and spec.first.what == "draws":
        raw["noise"] = raw["x"]
    if spec.masked:
        raw["mask"] = jnp.ones(raw["x"].shape, jnp.uint8)
    if spec.hidden:
        raw["hidden"] = jnp.zeros(raw["x"].shape, jnp.uint8)
    return raw
