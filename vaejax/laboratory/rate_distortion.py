"""Rate against distortion: what a model could do, and what it does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vaejax.inference.latents import draw_keys
from vaejax.laboratory.ais import annealing_of
from vaejax.laboratory.annealing import annealed_chains, sigmoid_schedule
from vaejax.laboratory.joint import joint_of
from vaejax.types import Array, Batch, Key, Variables

POINTS = 40
"""Points of a curve, at most."""
BEYOND = 0.25
"""Share of the temperatures that lie beyond the posterior, at beta > 1."""
CHUNK = 20


def curve_schedule(temperatures: int, largest: float) -> np.ndarray:
    """beta from 0 to 1, as of `sigmoid_schedule`, and on to the largest in equal
    ratios.
    """
    beyond = round(BEYOND * temperatures) if largest > 1 else 0
    first = sigmoid_schedule(temperatures - beyond)
    rest = largest ** (np.arange(1, beyond + 1) / max(beyond, 1))
    return np.concatenate([first, rest]).astype(np.float32)


def curve_points(betas: np.ndarray) -> np.ndarray:
    """Numbers of the temperatures that are points of the curve; beta = 1 is one."""
    count = len(betas) - 1
    even = np.linspace(0, count - 1, min(count, POINTS)).round().astype(int)
    posterior = int(np.argmin(np.abs(betas[1:] - 1)))
    return np.unique(np.append(even, posterior))


def rate_distortion_curve(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    chains: int,
    temperatures: int,
    leapfrog: int,
    largest_beta: float,
    draws: int,
) -> dict[str, Float[Array, "batch ..."]]:
    """Rate and distortion of each example along p(z) p(x | z)^beta, nats.

    The codes q_beta(z | x) proportional to p(z) p(x | z)^beta have the least rate
    KL(q || p) at their distortion E[-log p(x | z)]. Annealing that begins at the prior
    passes through all of them: D = -E[log p(x | z)] by the weighted chains at beta and
    R = -beta D - log Z, with the estimate of Z there, whose shortage makes R an upper
    bound [Huang et al. 2020]. At beta = 1 their sum is -log p(x).

    Args:
      model: a latent model whose latents are real numbers.
      variables: its variables.
      batch: examples as the model sees them.
      key: of the chains.
      chains: of each example.
      temperatures: distributions on the way.
      leapfrog: steps of a trajectory.
      largest_beta: the end of the path; beyond 1 distortion falls below that of the
        posterior.
      draws: of q(z | x), for the point of the model's encoder.

    Returns:
      `rate` and `distortion` `[batch, points]` at the betas of `curve_points`; those of
      the encoder `encoder_rate`, `encoder_distortion` `[batch]`, whose sum is minus the
      ELBO [Alemi et al. 2018]; and the mean `acceptance` of proposals.

    Raises:
      InputError: latents or x have no density that chains can follow.
    """
    joint = joint_of(model, variables, batch)
    betas = curve_schedule(temperatures, largest_beta)
    evaluate, path, draw = annealing_of(
        joint, key, jnp.asarray(betas), chains, leapfrog, "prior"
    )
    draw_key, chain_key, own_key = jax.random.split(jax.random.fold_in(key, 1), 3)
    found = annealed_chains(evaluate, draw(draw_key, chains), path, chain_key)
    at = curve_points(betas)
    distortion = -found.path[at]
    rate = -path.betas[1:][at][:, None] * distortion - found.log_z[at]

    def own(start: Array) -> tuple[Array, Array]:
        _, i = joint.posterior_draws(draw_keys(own_key, start + jnp.arange(CHUNK)))
        return (i.log_qz - i.log_pz).mean(0), -i.log_px.mean(0)

    rates, distortions = jax.lax.map(own, jnp.arange(0, draws, CHUNK))
    return {
        "rate": rate.T,
        "distortion": distortion.T,
        "encoder_rate": rates.mean(0),
        "encoder_distortion": distortions.mean(0),
        "acceptance": found.acceptance.mean(0),
    }
