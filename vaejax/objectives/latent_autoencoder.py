"""The autoencoder of latent diffusion and of tokens: against a critic, in features.

Its opponent is `adversarial.critic` of `adversarial.reconstruction_alone`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.inference.terms import Inference, infer, log_observed
from vaejax.nn.layers import mean_over_devices
from vaejax.objectives.adversarial import Loss, fooling, sum_over
from vaejax.objectives.elbo import sigma_term
from vaejax.objectives.quantized import (
    Weight,
    code_losses,
    code_terms,
    rate_of_pixels,
)
from vaejax.types import Array, Batch, Distribution, Key, Metrics

DELTA = 1e-4
"""Added to the norm of the critic's slope [Esser et al. 2021, code]."""
MOST = 1e4
"""The largest adaptive weight [Rombach et al. 2022, code]."""
stopped = jax.lax.stop_gradient


class Distance(Protocol):
    """A frozen network in whose features images are compared."""

    def distance(self, x: Array, y: Array) -> Array:
        """The distance of each pair of images in [0, 1], `[batch]`."""
        ...


class Perceived(NamedTuple):
    """A perceptual loss: `weight` times the distance, for each entry of x."""

    by: Distance
    weight: float | Array = 1.0


class BottleneckTerms(NamedTuple):
    """The cost of latents: terms of the loss, and quantities logged beside them."""

    losses: Callable[[Inference], Metrics]
    told: Callable[[Inference, Batch], Metrics]


def kl_bottleneck(weight: float | Array) -> BottleneckTerms:
    """`rate`, the weight times KL(q(z | x) || p(z)) in nats per example."""
    return BottleneckTerms(lambda i: {"rate": weight * jnp.mean(i.kl)}, rate_of_pixels)


def code_bottleneck(
    commitment: Weight, codebook: Weight, entropy: Weight
) -> BottleneckTerms:
    """The losses of codes with these weights, of which None is none."""
    losses = partial(
        code_losses, commitment=commitment, codebook=codebook, entropy=entropy
    )
    return BottleneckTerms(losses, code_terms)


def latent_autoencoder(
    model: Any,
    batch: Batch,
    key: Key,
    *,
    bottleneck: BottleneckTerms,
    perceived: Perceived | None = None,
    loss: Loss | None = None,
    adversarial: float | Array = 1.0,
    adaptive: bool = True,
    most: float = MOST,
) -> tuple[Array, Metrics]:
    """Encoder and decoder of a latent autoencoder, nats per example.

    loss = E_q[-log p(x | z)] + perceptual + bottleneck + adversarial lambda fool
    [Esser et al. 2021, eq. 5-7; Rombach et al. 2022, eq. 25], where fool is the loss of
    the reconstruction before the critic, and lambda `slope_ratio`.

    Args:
      model: a bound `vaejax.models.LatentModel`, with a `critic` where there is a loss
        of it, and with a decoder that has a `last_kernel` where that is adaptive.
      batch: `x` `[batch, height, width, channels]`, in [0, 1].
      key: a `jax.random.key`.
      bottleneck: the terms of the latents.
      perceived: a distance in features of E[x | z] to x, which is added for each entry
        of x, as the published losses do; None: there is none.
      loss: of the critic's scores; None: there is no critic.
      adversarial: weight of the critic; 0 before it starts.
      adaptive: whether lambda is `slope_ratio`, or 1.
      most: the largest lambda.

    Returns:
      The loss, a scalar, and its terms: `loss` = `distortion` + `perceptual` + `style`
      (the weighted loss before the critic) + those of the bottleneck, of these what
      there is. Beside them lambda, `adaptive_weight`; `elbo` and `kl`, nats; and what
      the bottleneck tells.
    """
    i, begins = infer(model, batch, key), model.is_initializing()
    # A frozen network brings no parameters: what is loaded need not have it.
    terms = fidelity(i.px, batch, None if begins else perceived)
    terms |= bottleneck.losses(i)
    more = bottleneck.told(i, batch) | sigma_term(i)
    if loss is not None:
        score = model.critic(i.px.mean[0], batch)
        weight = jnp.float32(1.0)
        if adaptive and not begins:
            weight = slope_ratio(model, i.z, batch, perceived, loss, most)
        terms["style"] = adversarial * weight * fooling(loss, {"reconstruction": score})
        more["adaptive_weight"] = weight
    total, kl = sum_over(terms, lambda term: term), jnp.mean(i.kl)
    bound = {"elbo": -terms["distortion"] - kl, "kl": kl}
    return total, {"loss": total, **bound, **terms, **more}


def fidelity(
    px: Distribution, batch: Batch, perceived: Perceived | None
) -> dict[str, Array]:
    """The errors of reconstructions: `distortion` and `perceptual`, nats."""
    terms = {"distortion": -jnp.mean(log_observed(px, batch))}
    if perceived is None:
        return terms
    x, entries = batch["x"], math.prod(batch["x"].shape[1:])
    far = perceived.by.distance(x, px.mean[0]).mean()
    return terms | {"perceptual": perceived.weight * entries * far}


def slope_ratio(
    model: Any,
    z: Array,
    batch: Batch,
    perceived: Perceived | None,
    loss: Loss,
    most: float = MOST,
) -> Array:
    """lambda = min(|slope of fidelity| / (|slope of fool| + delta), most), no slope.

    Slopes are those in the decoder's last kernel [Esser et al. 2021, eq. 7], so that
    what is before that is not differentiated. Both are of the whole batch.
    """
    decode, variables = pure_call(model.decoder)
    judge, of_critic = pure_call(model.critic)
    variables, z, of_critic = stopped((variables, z, of_critic))
    place = ("params", *model.decoder.last_kernel)

    def decoded(kernel: Array) -> Distribution:
        return decode(with_leaf(variables, place, kernel), z, batch)

    def faithful(kernel: Array) -> Array:
        return sum_over(fidelity(decoded(kernel), batch, perceived), lambda term: term)

    def fool(kernel: Array) -> Array:
        score = judge(of_critic, decoded(kernel).mean[0], batch)
        return fooling(loss, {"reconstruction": score})

    kernel = leaf_at(variables, place)
    near, fooled = (
        jnp.linalg.norm(mean_over_devices(jax.grad(each)(kernel)).reshape(-1))
        for each in (faithful, fool)
    )
    return stopped(jnp.minimum(near / (fooled + DELTA), most))


def pure_call(module: nn.Module) -> tuple[Callable[..., Any], Any]:
    """A bound module as a function of its variables, which trains as the module does:
    what it would write is dropped. And the variables.
    """
    pure, variables = module.unbind()
    written = [
        name
        for name in variables
        if name != "params" and module.is_mutable_collection(name)
    ]

    def call(variables: Any, *arguments: Any) -> Any:
        return pure.apply(variables, *arguments, mutable=written)[0]

    return call, variables


def leaf_at(tree: Mapping[str, Any], place: tuple[str, ...]) -> Array:
    """The array at a place of nested dictionaries."""
    found: Any = tree
    for name in place:
        found = found[name]
    return found


def with_leaf(
    tree: Mapping[str, Any], place: tuple[str, ...], leaf: Array
) -> dict[str, Any]:
    """Nested dictionaries with another array at a place."""
    first, *rest = place
    below = with_leaf(tree[first], tuple(rest), leaf) if rest else leaf
    return {**tree, first: below}
