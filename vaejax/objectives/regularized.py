"""Deterministic autoencoders whose decoder is regularized: RAE."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch, Key, Metrics

PenaltyName = Literal["l2", "gp"]


def regularized(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    penalty: PenaltyName = "l2",
    beta: float | Array = 1e-4,
    strength: float | Array = 1e-7,
) -> tuple[Array, Metrics]:
    """The objective of a regularized autoencoder, nats per example.

    loss = -log p(x | z) + beta |z|^2 / 2 + strength R, z the encoding of x
    [Ghosh et al. 2020, eq. 8]. R is the sum of the decoder's squared parameters (l2),
    or the mean over the batch of |dE[x | z] / dz|^2, the squared entries of the
    decoder's Jacobian (gp).

    Args:
      model: a bound model with the part `decoder` and a deterministic encoder.
      batch: `x` `[batch, *shape]`, and what the model conditions on.
      key: a `jax.random.key`.
      penalty: R.
      beta: weight of the encodings' squared norm.
      strength: weight of R.

    Returns:
      The loss, a scalar, and its terms: `loss` = `distortion` + `rate` + `penalty`;
      nats.
    """
    i = infer(model, batch, key)
    z = i.z[0]
    parts = {
        "distortion": -jnp.mean(i.log_px),
        "rate": beta * jnp.mean(jnp.square(z).sum(-1)) / 2,
        "penalty": strength * PENALTIES[penalty](model, z, batch, key),
    }
    loss = parts["distortion"] + parts["rate"] + parts["penalty"]
    return loss, {"loss": loss, **parts}


def squared_parameters(model: Any, z: Array, batch: Batch, key: Key) -> Array:
    """The sum of the decoder's squared parameters."""
    del z, batch, key
    leaves = jax.tree.leaves(model.decoder.variables["params"])
    return jnp.stack([jnp.square(leaf).sum() for leaf in leaves]).sum()


def squared_jacobian(model: Any, z: Array, batch: Batch, key: Key) -> Array:
    """The mean over the batch of the squared entries of dE[x | z] / dz.

    Estimated by one random direction for each example, `squared_slopes`.
    """
    pure, variables = model.decoder.unbind()

    def mean_of(z: Array) -> Array:
        return pure.apply(variables, z[None], batch).mean[0]

    signs = jax.random.rademacher(
        jax.random.fold_in(key, OfObjective.DIRECTION), z.shape, z.dtype
    )
    return squared_slopes(mean_of, z, signs).mean()


def squared_slopes(
    function: Callable[[Array], Array],
    z: Float[Array, "batch latents"],
    directions: Float[Array, "batch latents"],
) -> Float[Array, " batch"]:
    """|J v|^2 of each example, J the Jacobian of the function at z.

    Of v with independent entries 1 or -1 the mean is the sum of J's squared entries
    [Hutchinson 1989].
    """
    _, slope = jax.jvp(function, (z,), (directions,))
    return jnp.square(slope).reshape(len(z), -1).sum(-1)


PENALTIES: Mapping[str, Callable[..., Array]] = {
    "l2": squared_parameters,
    "gp": squared_jacobian,
}
