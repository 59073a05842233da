"""The loss of a bound to the family of its posterior, and to its encoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Float

from vaejax.inference.latents import Keys, draw_keys
from vaejax.laboratory.joint import joint_of
from vaejax.laboratory.local import FamilyName, fit_gaussian, started_at, weights_by
from vaejax.laboratory.weights import all_log_weights, weight_numbers
from vaejax.types import Array, Batch, Key, Variables

MOST_FULL = 256
"""Latents up to which a full covariance is fitted."""
FIRST_DRAWS = 200
"""Draws of q(z | x) whose moments a fit begins with."""


def inference_gaps(
    model: nn.Module,
    variables: Variables,
    batch: Batch,
    key: Key,
    *,
    samples: int,
    draws: int,
    most: int,
) -> dict[str, Float[Array, " batch"]]:
    """The numbers that the gaps of inference are made of, for each example, nats.

    With q*, the best Gaussian for that example alone, log p(x) - ELBO of q* is the
    approximation gap and ELBO of q* - ELBO of q(z | x) the amortization gap
    [Cremer et al. 2018]. q* is sought among the diagonal Gaussians over all
    latents and, of up to 256 latents, those with any covariance.

    Args:
      model: a latent model whose latents are real numbers.
      variables: its variables.
      batch: examples as the model sees them.
      key: of all draws.
      samples: importance samples of the estimates of log p(x), by each q.
      draws: of z in each step of a fit.
      most: steps of a fit, at most.

    Returns:
      `elbo`, of q(z | x), and `elbo_diagonal`, `elbo_full`; estimates of log p(x) with
      each q as the proposal, `log_p`, `log_p_diagonal`, `log_p_full`; of each estimate
      the effective sample size (`ess...`) and Pareto k-hat (`khat...`); the `steps...`
      of each fit and whether it reached a `plateau...`; and whether q(z | x) is a
      `diagonal` Gaussian itself.

    Raises:
      InputError: latents or x have no density whose slope could be followed.
    """
    joint = joint_of(model, variables, batch)
    start_key, own_key, fit_key, key = jax.random.split(key, 4)
    first, i = joint.posterior_draws(draw_keys(start_key, jnp.arange(FIRST_DRAWS)))

    def own_weights(keys: Keys) -> Array:
        return joint.posterior_draws(keys)[1].log_w

    found = numbers_by(all_log_weights(own_weights, own_key, samples), "")
    own = [term.q for term in i.latents.values()]
    diagonal = len(own) == 1 and isinstance(own[0], dist.Normal)
    found["diagonal"] = jnp.full(joint.examples, diagonal)
    families: list[FamilyName] = ["diagonal", "full"]
    start = started_at(first, "diagonal")
    for family in families[: 2 if joint.dims <= MOST_FULL else 1]:
        if family == "full":  # from the diagonal one
            start = start._replace(lower=started_at(first, "full").lower)
        fit = fit_gaussian(joint, start, fit_key, draws, most)
        start = fit.q
        log_w = all_log_weights(weights_by(joint, fit.q), key, samples)
        found |= numbers_by(log_w, f"_{family}")
        found[f"steps_{family}"] = jnp.full(joint.examples, fit.steps)
        found[f"plateau_{family}"] = jnp.full(joint.examples, fit.plateau)
    return {name: value.astype(jnp.float32) for name, value in found.items()}


def numbers_by(log_w: Float[Array, "samples batch"], end: str) -> dict[str, Array]:
    """ELBO and estimate of log p(x) by weights, under names with an ending."""
    numbers = weight_numbers(log_w)
    return {
        f"elbo{end}": log_w.mean(0),
        f"log_p{end}": numbers.log_p,
        f"ess{end}": numbers.ess,
        f"khat{end}": numbers.khat,
    }
