"""Encoders of examples with holes."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaejax.types import Array, Batch


def read_input(reader: nn.Module | None, batch: Batch) -> Array:
    """Input of an encoder's body: x, 0 in its holes, unless there is a reader."""
    return batch["x"] if reader is None else reader(batch)


def observed(batch: Batch) -> Array:
    """The mask, which is all ones where the batch has none."""
    return batch["mask"] if "mask" in batch else jnp.ones_like(batch["x"])


class Constant(nn.Module):
    """A learned constant for each entry where it is not observed.

    [Mattei & Frellsen 2019, supplement; it starts at 0, the mean of a table's column].
    """

    @nn.compact
    def __call__(self, batch: Batch) -> Array:
        x = batch["x"]
        constant = self.param("constant", nn.initializers.zeros, x.shape[1:])
        return jnp.where(observed(batch) == 1, x, constant[None])


class Blind(nn.Module):
    """Hides a random share of the observed entries from `reader`, given a key.

    An encoder that never sees an example twice alike does not learn it by heart
    [Im et al. 2017; Shu et al. 2018]. What is hidden still counts in the likelihood.
    """

    rate: float
    reader: nn.Module | None

    def setup(self) -> None:
        if self.reader is not None:
            nn.share_scope(self, self.reader)  # its parameters are called as without us

    def __call__(self, batch: Batch) -> Array:
        if self.has_rng("dropout"):
            x, key = batch["x"], self.make_rng("dropout")
            seen = jax.random.bernoulli(key, 1 - self.rate, x.shape)
            mask = jnp.where(seen, observed(batch), 0)
            batch = {**batch, "x": jnp.where(seen, x, 0), "mask": mask}
        return read_input(self.reader, batch)


class WithMask(nn.Module):
    """x with 0 in its holes, and the mask beside it as further columns or channels."""

    def __call__(self, batch: Batch) -> Array:
        return jnp.concatenate([batch["x"], observed(batch)], axis=-1)


class SetEncoder(nn.Module):
    """The sum over observed entries of what a network makes of each: `[batch, code]`.

    An entry is its value times a learned embedding of its place, so the encoder is
    invariant to the order and indifferent to the number of what is observed
    [Ma et al. 2019, sec. 3.2, PNP].
    """

    embedding: int = 20
    code: int = 100

    @nn.compact
    def __call__(self, batch: Batch) -> Array:
        x, mask = (a.reshape(a.shape[0], -1) for a in (batch["x"], observed(batch)))
        normal = nn.initializers.normal(1.0)
        places = self.param("places", normal, (x.shape[1], self.embedding))
        biases = self.param("biases", nn.initializers.zeros, (x.shape[1],))
        # Of an entry: (x e, x, e, b): the place is known where the value is 0, too.
        own = jnp.broadcast_to(places, (*x.shape, self.embedding))
        each = jnp.concatenate([x[..., None] * own, x[..., None], own], -1)
        h = nn.relu(nn.Dense(self.code)(each) + biases[None, :, None])
        return jnp.einsum("bdc,bd->bc", h, mask)
