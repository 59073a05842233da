"""A flow from noise to data along straight paths, by a learned velocity."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from vaejax.distributions import Delta, Normal
from vaejax.errors import InputError
from vaejax.inference.ode import (
    MethodName,
    OdeDensity,
    OdePath,
    Velocity,
    integrate,
    ode_density,
)
from vaejax.models.base import Generator
from vaejax.models.conditions import condition_of
from vaejax.types import Array, Batch, Distribution, Key


class RectifiedFlow(Generator):
    """dx/dt = v(x, t, y) from a standard normal at t = 0 to the data at t = 1.

    Trained by `objectives.flow_matching` [Lipman et al. 2023; Liu et al. 2023]. Noise
    is the latent, of the shape of x, and the flow of it a point mass: samples need no
    density, and none is claimed but that of `log_density`, with its errors. `network`
    is called with x `[rows, *shape]`, t `[rows]` and the condition; `shift` and
    `spread` make x of about mean 0 and deviation 1.

    With a `guidance` w other than 1 samples follow v(null) + w (v(y) - v(null)), the
    null label being none [Ho & Salimans 2022, eq. 6, whose w is 1 less]. They then are
    no draws of a density that is known.
    """

    network: nn.Module
    condition: nn.Module | None = None
    steps: int = 50
    method: MethodName = "heun"
    guidance: float = 1.0
    shift: float = 0.0
    spread: float = 1.0

    def velocity(
        self, x: Array, t: Float[Array, " rows"], batch: Batch
    ) -> Float[Array, "rows *shape"]:
        """v(x, t, y) of standardized x, a row for each example of the batch."""
        return self.network(x, t, condition_of(self.condition, batch))

    def standardized(self, batch: Batch) -> Array:
        """x with `shift` taken off, in units of `spread`; InputError at holes."""
        if "mask" in batch:
            raise InputError(
                "the data have holes, which a flow cannot be trained on: give whole "
                "examples"
            )
        return (batch["x"] - self.shift) / self.spread

    def prior(self, batch: Batch) -> Distribution:
        """Noise of the shape of x."""
        return Normal(jnp.zeros(batch["x"].shape), 1.0)

    def likelihood(self, z: Array, batch: Batch) -> Distribution:
        """The ends of the paths that begin at z `[samples, batch, *shape]`."""
        move = self.free_velocity(batch, self.guidance, len(z))
        rows = z.reshape(-1, *z.shape[2:])
        x = integrate(move, rows, OdePath(self.steps, self.method), 0.0, 1.0)
        return Delta(self.shift + self.spread * x.reshape(z.shape))

    def free_velocity(
        self, batch: Batch, guidance: float = 1.0, samples: int = 1
    ) -> Velocity:
        """v(x, t) at a scalar time, guided, free of Flax: JAX may transform it.

        Its rows are the examples of the batch, `samples` times one after the other.
        """
        # Flax forbids JAX's loops around modules that are bound to their variables.
        network, variables = self.network.unbind()
        c = condition_of(self.condition, batch)
        c = None if c is None else jnp.tile(c, (samples, 1))

        def velocity(x: Array, t: Array, c: Array | None) -> Array:
            times = jnp.broadcast_to(t, x.shape[:1])
            return jnp.asarray(network.apply(variables, x, times, c))

        if c is None or guidance == 1:
            return lambda x, t: velocity(x, t, c)

        def guided(x: Array, t: Array) -> Array:
            null = velocity(x, t, jnp.zeros_like(c))
            return null + guidance * (velocity(x, t, c) - null)

        return guided

    def log_density(
        self, batch: Batch, key: Key, path: OdePath | None = None, probes: int = 0
    ) -> OdeDensity:
        """log p(x | y) of the unguided flow by its differential equation, nats.

        Args:
          batch: `x` `[batch, *shape]`, and the condition.
          key: of the probes.
          path: steps and method; None: those of samples.
          probes: random signs that each estimate divergences; 0: these are exact, at
            the cost of one evaluation for each entry of x.

        Returns:
          Log densities of x in its own units, and their errors.

        Raises:
          InputError: x has holes, or there is too little to tell an error by.
        """
        x = self.standardized(batch)
        path = OdePath(self.steps, self.method) if path is None else path
        found = ode_density(self.free_velocity(batch), x, path, key, probes)
        volume = math.prod(x.shape[1:]) * math.log(self.spread)
        return found._replace(log_p=found.log_p - volume)
