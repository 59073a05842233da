"""Bounds of log p(x, y) where a label is known, and of log p(x) where it is not.

[Kingma et al. 2014, eq. 6 to 9]. The label of an example that has none is a latent
variable, which is summed over all classes or drawn by its Gumbel-softmax relaxation.
"""

import math
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax.nn import one_hot
from jax.random import split
from jaxtyping import Float

from vaejax.distributions import draw_with_log_prob
from vaejax.distributions.categories import Categories
from vaejax.inference.terms import infer
from vaejax.models import SemiSupervisedVAE
from vaejax.types import Array, Batch, Key, Metrics

Estimator = Literal["enumerate", "gumbel"]


class LabelBounds(NamedTuple):
    """The terms of an ELBO at labels, nats `[batch, labels]`; one draw of z each."""

    distortion: Float[Array, "batch labels"]
    """-log p(x | z, y)."""
    kl: Float[Array, "batch labels"]
    """KL(q(z | x, y) || p(z))."""


def semi_supervised(
    model: SemiSupervisedVAE,
    batch: Batch,
    key: Key,
    *,
    auxiliary: float | Array = 0.0,
    estimator: Estimator = "enumerate",
    temperature: float | Array = 0.5,
) -> tuple[Array, Metrics]:
    """The objective of M2 [Kingma et al. 2014, eq. 9], nats per example of the batch.

    Labelled rows have -L(x, y), the others -U(x):

    L(x, y) = E_q(z | x, y)[log p(x | z, y) + log p(y) + log p(z) - log q(z | x, y)]
    U(x) = sum_y q(y | x) L(x, y) + H(q(y | x))

    with H the entropy and p(y) uniform. Labelled rows also have `auxiliary` times
    -log q(y | x), by which q(y | x) learns from labels.

    Args:
      model: a bound `vaejax.models.SemiSupervisedVAE`.
      batch: `x` `[batch, *shape]`, and `y` int `[batch]`, -1 where there is no label.
      key: a `jax.random.key`.
      auxiliary: weight of -log q(y | x) in a labelled row; the authors' code has
        alpha * N / N_labelled.
      estimator: `enumerate`, the exact sum over y; or `gumbel`, one draw of it, whose
        value is unbiased and whose gradient is that of the draw's relaxation [Jang et
        al. 2017, straight-through].
      temperature: of that relaxation.

    Returns:
      The loss, a scalar, and its terms, scalars averaged over all rows, nats: `loss` =
      `distortion` + `kl_z` + `kl_y` + `classification`; `elbo` = minus the first three.
      `kl_y` is KL(q(y | x) || p(y)), and -log p(y) in labelled rows.
    """
    label_key, key = split(key)
    log_q = model.log_labels(batch)
    known = one_hot(batch["y"], log_q.shape[-1])  # zeros where there is no label
    share = jnp.where(batch["y"][:, None] >= 0, known, jnp.exp(log_q))
    if estimator == "gumbel":
        drawn, _ = draw_with_log_prob(
            Categories(log_q[:, None], temperature), label_key
        )
        given = jnp.where(batch["y"][:, None] >= 0, known, drawn)
        bounds, weights = bounds_at(model, batch, given, key), jnp.ones((len(given), 1))
    else:
        bounds, weights = bounds_at_all(model, batch, key), share
    terms = {
        "distortion": jnp.mean((weights * bounds.distortion).sum(-1)),
        "kl_z": jnp.mean((weights * bounds.kl).sum(-1)),
        "kl_y": jnp.mean(label_kl(share, log_q, batch["y"])),
    }
    bound = jnp.stack(list(terms.values())).sum()
    classification = auxiliary * -jnp.mean((known * log_q).sum(-1))
    loss = bound + classification
    told = {"loss": loss, "elbo": -bound}
    return loss, told | terms | {"classification": classification}


def bounds_at(
    model: SemiSupervisedVAE, batch: Batch, y: Array, key: Key
) -> LabelBounds:
    """The terms at one label of each example: weights of classes `[batch, classes]`."""
    i = infer(model, {**batch, "y": y}, key)
    return LabelBounds(-i.log_px[0][:, None], i.kl[0][:, None])


def bounds_at_all(model: SemiSupervisedVAE, batch: Batch, key: Key) -> LabelBounds:
    """The terms at each class of each example, `[batch, classes]`, in one pass."""
    size, classes = model.log_labels(batch).shape
    # An example's classes stand side by side: devices then part rows as before.
    every = {name: jnp.repeat(a, classes, 0) for name, a in batch.items()}
    every["y"] = jnp.tile(jnp.arange(classes), size)
    i = infer(model, every, key)
    return LabelBounds(
        -i.log_px[0].reshape(size, classes), i.kl[0].reshape(size, classes)
    )


def label_kl(share: Array, log_q: Array, y: Array) -> Float[Array, " batch"]:
    """KL(q(y | x) || p(y)) with uniform p(y), and -log p(y) where y is known, nats."""
    uniform = math.log(log_q.shape[-1])
    unknown = (share * log_q).sum(-1) + uniform
    return jnp.where(y >= 0, uniform, unknown)


def marginal_bound(
    model: SemiSupervisedVAE, batch: Batch, key: Key
) -> Float[Array, " batch"]:
    """U(x), a lower bound of log p(x) in expectation, whatever labels there are; nats.

    [Kingma et al. 2014, eq. 7], with one draw of z for each class.
    """
    log_q = model.log_labels(batch)
    bounds = bounds_at_all(model, batch, key)
    share, nobody = jnp.exp(log_q), jnp.full(len(log_q), -1)
    at_labels = (share * (bounds.distortion + bounds.kl)).sum(-1)
    return -at_labels - label_kl(share, log_q, nobody)
