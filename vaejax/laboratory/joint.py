"""The densities of a model as functions of one vector of latents for each example."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float
from numpyro.distributions import constraints

from vaejax.errors import InputError
from vaejax.inference.latents import Keys, Unweighed, flat
from vaejax.inference.terms import Inference
from vaejax.metrics.evidence import require_density
from vaejax.types import Array, Batch, Key, Variables

Vectors = Float[Array, "draws batch dims"]
"""Latents of all blocks of an example, one after the other."""


class Joint(NamedTuple):
    """A model at a batch, whose latents are vectors; all densities in nats."""

    model: nn.Module
    variables: Variables
    batch: Batch
    shapes: Mapping[str, tuple[int, ...]]
    """Axes of each block's latents, in the order of `Inference.latents`."""

    @property
    def dims(self) -> int:
        """Latents of an example in all blocks."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def examples(self) -> int:
        """Examples of the batch."""
        return self.batch["x"].shape[0]

    def vectors(self, blocks: Mapping[str, Array]) -> Vectors:
        """Blocks by name, `[draws, batch, ...]`, as vectors."""
        return jnp.concatenate([flat(blocks[name]) for name in self.shapes], -1)

    def blocks(self, z: Vectors) -> dict[str, Array]:
        """Vectors as blocks by name."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            found[name] = z[..., start:end].reshape(*z.shape[:2], *shape)
            start = end
        return found

    def prior_and_likelihood(self, z: Vectors) -> tuple[Array, Array]:
        """log p(z) and log p(x | z), `[draws, batch]`."""
        source = Unweighed(self.blocks(z))
        i: Any = self.model.apply(self.variables, self.batch, source, method="terms")
        return i.log_pz, i.log_px

    def posterior_and_weight(self, z: Vectors) -> tuple[Array, Array]:
        """log q(z | x) and log p(x, z) / q(z | x), `[draws, batch]`."""
        i: Any = self.model.apply(
            self.variables, self.blocks(z), self.batch, method="weigh"
        )
        return i.log_qz, i.log_w

    def log_joint(self, z: Vectors) -> Float[Array, "draws batch"]:
        """log p(x, z)."""
        log_pz, log_px = self.prior_and_likelihood(z)
        return log_pz + log_px

    def prior_draws(self, keys: Keys) -> Vectors:
        """Latents of the prior."""
        blocks: Any = self.model.apply(
            self.variables, self.batch, keys, method="draw_blocks"
        )
        return self.vectors(blocks)

    def posterior_draws(self, keys: Keys) -> tuple[Vectors, Inference]:
        """Latents of q(z | x), and their terms."""
        i: Any = self.model.apply(self.variables, self.batch, keys, method="infer")
        return self.vectors({name: term.z for name, term in i.latents.items()}), i


def joint_of(model: nn.Module, variables: Variables, batch: Batch) -> Joint:
    """The model's densities at a batch.

    Raises:
      InputError: latents or x have no density that chains and slopes can follow.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def look(key: Key) -> None:
        i: Any = model.apply(variables, batch, key[None], method="infer")
        require_density(i.px, "p(x | z)")
        for name, term in i.latents.items():
            require_real(term.q, name)
            require_real(term.p, name)
            shapes[name] = term.z.shape[2:]

    if not model.ignorable:
        raise InputError(
            "a model of why entries are missing draws these entries beside its "
            "latents: of this kind of run only nll_over_k and posterior are measured"
        )
    jax.eval_shape(look, jax.random.key(0))
    return Joint(model, variables, batch, shapes)


def require_real(p: Any, block: str) -> None:
    """InputError where the latents of a block are not real numbers with a density."""
    require_density(p, f"the density of the latents {block}")
    support = getattr(p, "support", None) if isinstance(p, dist.Distribution) else None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is not None and support is not constraints.real:
        raise InputError(
            f"the latents {block} are {type(p).__name__}, no real numbers, so that "
            "nothing follows their slope: ask for nll_over_k or posterior"
        )


def simulated(
    model: nn.Module, variables: Variables, batch: Batch, key: Key
) -> tuple[Vectors, Batch]:
    """Examples of the model itself, with the latents that they were made of.

    z `[1, batch, dims]` is a draw of the exact posterior p(z | x) of that x. What the
    model is conditioned on, and where x has holes, is that of the batch.
    """
    z_key, x_key = jax.random.split(key)
    joint = joint_of(model, variables, batch)
    z = joint.prior_draws(z_key[None])
    first = next(iter(joint.blocks(z).values()))
    px: Any = model.apply(variables, first, batch, method="decode")
    x = px.sample(x_key)[0]
    if "mask" in batch:
        x = jnp.where(batch["mask"] == 1, x, 0.0)
    return z, {**batch, "x": x}
