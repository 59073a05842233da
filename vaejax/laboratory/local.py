"""Gaussians over the latents of single examples, each fitted to its own posterior."""

from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float

from vaejax.inference.latents import Keys
from vaejax.laboratory.joint import Joint
from vaejax.laboratory.weights import LogWeights
from vaejax.types import Array, Key

FamilyName = Literal["diagonal", "full"]
RATES = (0.03, 0.006, 0.001)
"""Learning rates of Adam; a plateau is followed by the next one."""
ROUND = 50
"""Steps between two looks at the bound, over which parameters are averaged."""
GAIN = 0.02
"""Rise of the mean bound, nats, below which a round counts as no progress."""
PATIENCE = 2
"""Rounds without progress that are a plateau."""


class LocalGaussian(NamedTuple):
    """q(z) = N(mean, L L') of each example; L has the diagonal exp(log_scale)."""

    mean: Float[Array, "batch dims"]
    log_scale: Float[Array, "batch dims"]
    lower: Float[Array, "batch dims dims"] | None
    """Entries of L below the diagonal, and others that are not read; None: none."""

    def drawn(self, noise: Float[Array, "draws batch dims"]) -> Array:
        """z = mean + L noise."""
        scaled = jnp.exp(self.log_scale)[None] * noise
        if self.lower is not None:
            strict = jnp.tril(self.lower, -1)
            scaled = scaled + jnp.einsum("bij,sbj->sbi", strict, noise)
        return self.mean[None] + scaled

    def log_prob(self, noise: Float[Array, "draws batch dims"]) -> Array:
        """log q(z) of the z that the noise gives, nats `[draws, batch]`."""
        normal = -0.5 * (jnp.square(noise) + jnp.log(2 * jnp.pi))
        return (normal - self.log_scale[None]).sum(-1)

    def whitened(self, noise: Float[Array, "draws batch dims"]) -> Array:
        """L'^-1 noise: minus the slope of log q(z) by z."""
        if self.lower is None:
            return jnp.exp(-self.log_scale)[None] * noise
        dims = jnp.eye(self.mean.shape[-1])
        diagonal = jnp.exp(self.log_scale)[..., None] * dims[None]
        factor = jnp.tril(self.lower, -1) + diagonal
        columns = jnp.moveaxis(noise, 0, -1)  # [batch, dims, draws]
        solved = jax.vmap(lambda a, b: solve_triangular(a, b, trans=1, lower=True))
        return jnp.moveaxis(solved(factor, columns), -1, 0)


class Fitted(NamedTuple):
    """A fit, and the number of its steps."""

    q: LocalGaussian
    steps: Array
    plateau: Array
    """Whether it ended because the bound rose no more."""


class Search(NamedTuple):
    """The state of a fit after a round."""

    q: LocalGaussian
    optimizer: Any
    mean: LocalGaussian
    """The average over the last round."""
    best: Array
    stale: Array
    stage: Array
    round: Array


def started_at(
    z: Float[Array, "draws batch dims"], family: FamilyName
) -> LocalGaussian:
    """The Gaussian with the moments of draws, diagonal at first."""
    dims = z.shape[-1]
    log_scale = jnp.log(jnp.maximum(z.std(0), 1e-4))
    lower = jnp.zeros((z.shape[1], dims, dims)) if family == "full" else None
    return LocalGaussian(z.mean(0), log_scale, lower)


def fit_gaussian(
    joint: Joint, start: LocalGaussian, key: Key, draws: int, most: int
) -> Fitted:
    """Maximizes the ELBO of every example by itself, all at once.

    Adam with gradients that stick the landing [Roeder et al. 2017], whose noise is 0
    where q is the posterior. The learning rate falls at each plateau of the mean bound,
    and the last plateau ends it, or `most` steps do.

    Args:
      joint: the model at a batch.
      start: the Gaussians to begin with.
      key: of the draws.
      draws: of z for each step.
      most: steps, at most.
    """
    rounds = -(-most // ROUND)
    adam = optax.scale_by_adam()

    def one_round(s: Search) -> Search:
        rate = jnp.asarray(RATES)[jnp.minimum(s.stage, len(RATES) - 1)]

        def step(carry: tuple, key: Key) -> tuple:
            q, optimizer, total = carry
            slope, bound = slope_of_bound(joint, q, key, draws)
            updates, optimizer = adam.update(cast(Any, slope), optimizer)
            q = jax.tree.map(lambda a, u: a - rate * u, q, updates)
            return (q, optimizer, jax.tree.map(jnp.add, total, q)), bound.mean()

        keys = jax.random.split(jax.random.fold_in(key, s.round), ROUND)
        start = s.q, s.optimizer, jax.tree.map(jnp.zeros_like, s.q)
        (q, optimizer, total), bounds = jax.lax.scan(step, start, keys)
        mean = jax.tree.map(lambda a: a / ROUND, total)
        bound = bounds.mean()
        stale = jnp.where(bound > s.best + GAIN, 0, s.stale + 1)
        over = stale >= PATIENCE
        return Search(
            q=jax.tree.map(lambda m, a: jnp.where(over, m, a), mean, q),
            optimizer=optimizer,
            mean=mean,
            best=jnp.where(over, -jnp.inf, jnp.maximum(bound, s.best)),
            stale=jnp.where(over, 0, stale),
            stage=s.stage + over,
            round=s.round + 1,
        )

    def unfinished(s: Search) -> Array:
        return (s.stage < len(RATES)) & (s.round < rounds)

    none = jnp.int32(0)
    first = Search(
        start,
        adam.init(cast(Any, start)),
        start,
        jnp.float32(-jnp.inf),
        none,
        none,
        none,
    )
    end = jax.lax.while_loop(unfinished, one_round, first)
    return Fitted(end.mean, end.round * ROUND, end.stage >= len(RATES))


def slope_of_bound(
    joint: Joint, q: LocalGaussian, key: Key, draws: int
) -> tuple[LocalGaussian, Float[Array, " batch"]]:
    """The slope of the negative ELBO, whose examples do not share parameters, and the
    ELBO of each, by the same draws.
    """
    noise = jax.random.normal(key, (draws, *q.mean.shape))
    away = jax.lax.stop_gradient(q.whitened(noise))

    def loss(q: LocalGaussian) -> tuple[Array, Array]:
        z = q.drawn(noise)
        log_joint = joint.log_joint(z)
        # log q at fixed parameters has the slope -away by z.
        value = (log_joint + (away * z).sum(-1)).mean(0).sum()
        return -value, (log_joint - q.log_prob(noise)).mean(0)

    return jax.grad(loss, has_aux=True)(q)


def weights_by(joint: Joint, q: LocalGaussian) -> LogWeights:
    """The function from keys to log p(x, z) / q(z) of draws of q."""

    def log_weights(keys: Keys) -> Array:
        noise = jax.vmap(lambda key: jax.random.normal(key, q.mean.shape))(keys)
        return joint.log_joint(q.drawn(noise)) - q.log_prob(noise)

    return log_weights
