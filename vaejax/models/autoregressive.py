"""An autoregressive model of maps of codes: the second stage of a token model."""

from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float, Int

from vaejax.distributions import Delta
from vaejax.errors import InputError, require
from vaejax.inference.latents import Keys, Source, fold_each
from vaejax.inference.terms import Inference, log_observed
from vaejax.models.base import LatentModel
from vaejax.models.conditions import condition_of
from vaejax.nn.transformer import CausalTransformer
from vaejax.types import Array, Batch, Distribution, Size


class CodePrior(LatentModel):
    """log p(x | y) = sum_t log p(x_t | x_1, ..., x_(t-1), y), exactly, in nats.

    x are codes `[batch, height, width, levels]`, whole numbers below the network's
    vocabulary, in raster order with levels innermost [van den Oord et al. 2017, sec.
    3.3; Transformer over codes: Esser et al. 2021, sec. 3.2]. It has no latents: there
    is nothing to encode, and its bound is its likelihood.

    `top_k` is how many codes, the most probable, `generate` draws from; 0 is all.
    """

    network: CausalTransformer
    condition: nn.Module | None = None
    top_k: int = 0

    def terms(self, batch: Batch, source: Source) -> Inference:
        """The likelihood of all codes; `px` are p(x_t | x_1, ..., x_(t-1), y)."""
        del source  # there are no latents
        px = self.conditionals(batch)
        return Inference(log_observed(px, batch), {}, px)

    def infer(self, batch: Batch, keys: Keys) -> Inference:
        """The likelihood, the same for each key: `log_px` is `[samples, batch]`."""
        i = super().infer(batch, keys)
        shape = (len(keys), *i.log_px.shape[1:])
        return i._replace(log_px=jnp.broadcast_to(i.log_px, shape))

    def conditionals(self, batch: Batch) -> Distribution:
        """p(x_t | x_1, ..., x_(t-1), y) at all places t: batch shape `[1, *x]`.

        Raises:
          InputError: x are no whole numbers, have holes or another shape.
        """
        x = checked_codes(batch, self.network)
        c = condition_of(self.condition, batch)
        logits = self.network(x.reshape(x.shape[0], -1), c)
        logits = logits.reshape(1, *x.shape, -1)
        return dist.CategoricalLogits(logits, validate_args=False)

    def generate(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> Distribution:
        """A point mass at codes that are drawn by `draw_codes`, one key a draw."""
        return Delta(self.draw_codes(batch, keys, temperature, self.top_k))

    def draw_codes(
        self,
        batch: Batch,
        keys: Keys,
        temperature: float | Array | None = None,
        top_k: int = 0,
    ) -> Int[Array, "samples batch height width levels"]:
        """Codes by ancestral sampling, place after place, with a cache.

        Args:
          batch: `x` `[batch, height, width, levels]`, which is read for its shape
            alone, and the condition.
          keys: one key a draw.
          temperature: divides the logits; 0 takes the most probable code, None is 1.
          top_k: codes, the most probable at each place, that are drawn from; 0 is all.

        Returns:
          `[samples, batch, height, width, levels]`, int32.

        Raises:
          InputError: top_k is more than there are codes, or x has another shape.
        """
        net, shape = self.network, batch["x"].shape
        require(0 <= top_k <= net.vocabulary, "top_k", top_k, f"0 to {net.vocabulary}")
        check_places(shape, net)
        rows, c = len(keys) * shape[0], condition_of(self.condition, batch)
        c = None if c is None else jnp.tile(c, (len(keys), 1))
        heat = 1.0 if temperature is None else temperature
        begin = net.start(rows), net.empty_cache(rows)
        # Flax forbids JAX's loops around modules that are bound to their variables.
        free, variables = net.unbind()

        def place_by_place(carry: Any, place: Array) -> tuple[Any, Array]:
            token, cache = carry
            logits, cache = free.apply(variables, token, place, cache, c, method="step")
            logits = logits.reshape(len(keys), shape[0], net.vocabulary)
            noisy = most_probable(logits, top_k) + heat * gumbel_of_each(
                fold_each(keys, place), logits.shape[1:]
            )
            codes = jnp.argmax(noisy, -1).astype(jnp.int32).reshape(rows)
            token = free.apply(variables, codes, place, method="embed")
            return (token, cache), codes

        _, codes = jax.lax.scan(place_by_place, begin, jnp.arange(net.length))
        return codes.T.reshape(len(keys), *shape)

    def encode(self, batch: Batch) -> NoReturn:
        self._refuse()

    def decode(self, z: Array, batch: Batch) -> NoReturn:
        self._refuse()

    def draw_prior(
        self, batch: Batch, keys: Keys, temperature: float | Array | None = None
    ) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(
            "a model of codes has no latents of its own: sample it, or take the "
            "log-likelihood of codes"
        )


def most_probable(
    logits: Float[Array, "... vocabulary"], top_k: int
) -> Float[Array, "... vocabulary"]:
    """Logits that are -inf but for the `top_k` largest; 0 leaves all."""
    if top_k == 0:
        return logits
    least = jax.lax.top_k(logits, top_k)[0][..., -1:]
    return jnp.where(logits >= least, logits, -jnp.inf)


def gumbel_of_each(keys: Keys, shape: tuple[Size, ...]) -> Array:
    """Standard Gumbel noise `[samples, *shape]`, one key a draw.

    The largest of logits plus such noise times T is a draw of softmax(logits / T).
    """
    return jax.vmap(lambda key: jax.random.gumbel(key, shape))(keys)


def check_places(shape: tuple[Size, ...], network: CausalTransformer) -> None:
    """InputError where maps of codes have other places or levels than the network."""
    _, height, width, levels = shape if len(shape) == 4 else (0, 0, 0, 0)
    if levels != network.levels or height * width * levels != network.length:
        raise InputError(
            f"codes have the shape {shape}: the model wants [batch, height, width, "
            f"{network.levels}] with {network.length} codes an example"
        )


def checked_codes(batch: Batch, network: CausalTransformer) -> Array:
    """The codes of a batch; InputError where they are none that the network takes."""
    x = batch["x"]
    check_places(x.shape, network)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise InputError(
            f"codes have dtype {x.dtype}: give whole numbers, one for each code"
        )
    if "mask" in batch:
        raise InputError(
            "codes have holes, and an autoregressive model has no likelihood of a "
            "part: give whole maps"
        )
    return x
