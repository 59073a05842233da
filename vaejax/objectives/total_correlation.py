"""The KL term in three parts, weighed apart: beta-TCVAE and FactorVAE.

With the aggregate posterior q(z) = E_p(x)[q(z | x)] the mean KL term is

    E[KL(q(z | x) || p(z))] = I(x; z) + KL(q(z) || prod_j q(z_j)) + KL(prod q(z_j) || p)

[Chen et al. 2018b, eq. 2]: mutual information, total correlation, and what is left to
the prior (the sum of each latent's KL where the prior is independent).
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Float

from vaejax.distributions.moments import marginals
from vaejax.inference.latents import LatentTerm
from vaejax.inference.terms import infer
from vaejax.models import LatentModel
from vaejax.objectives.adversarial import Subjects
from vaejax.objectives.elbo import gaussian_terms, terms
from vaejax.purposes import OfObjective
from vaejax.types import Array, Batch, Distribution, Key, Metrics

Estimator = Literal["weighted", "stratified"]
LogWeights = Float[Array, "batch batch"]


class Aggregate(NamedTuple):
    """Estimated log densities of the aggregate posterior at draws, nats."""

    joint: Float[Array, "samples batch"]
    """log q(z)."""
    product: Float[Array, "samples batch"]
    """sum_j log q(z_j)."""


def decomposed_elbo(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    examples: int,
    estimator: Estimator = "weighted",
    alpha: float | Array = 1.0,
    beta: float | Array = 1.0,
    gamma: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """The negative ELBO with a weight on each part of its KL term, nats per example.

    loss = E_q[-log p(x | z)] + alpha I(x; z) + beta TC(z) + gamma KL(prod q(z_j) || p)
    [Chen et al. 2018b, eq. 4]. The parts are estimated from the batch, and add up to
    the KL term as `elbo` has it (analytic where known) whatever the estimates are: with
    three weights of 1 the loss is that of `elbo`.

    Args:
      model: a bound `vaejax.models.LatentModel` of one block of real latents.
      batch: `x` `[batch, *shape]`, `mask` like x where it has holes, and what the
        model conditions on.
      key: a `jax.random.key`.
      examples: N, the size of the training split that batches are drawn from.
      estimator: weighted, whose logarithms are too small by constants that the logged
        parts have too; or stratified, of at least two examples.
      alpha: weight of the mutual information; 0 leaves it out.
      beta: weight of the total correlation.
      gamma: weight of the remaining divergence to the prior.

    Returns:
      The loss, a scalar, and its terms as those of `elbo`, beside the parts
      `mutual_information`, `total_correlation` and `dimension_wise_kl`, whose weighted
      sum is `rate`; nats.

    Raises:
      InputError: the latents have no density of their own each.
    """
    i = infer(model, batch, key)
    term: LatentTerm = i.latents["z"]
    found = aggregate(term, ESTIMATORS[estimator](term.z.shape[1], examples))
    kl = jnp.mean(i.kl)
    to_prior = jnp.mean(found.joint - term.log_p)
    parts = {
        "mutual_information": kl - to_prior,
        "total_correlation": jnp.mean(found.joint - found.product),
        "dimension_wise_kl": jnp.mean(found.product - term.log_p),
    }
    # Written so that weights of 1 leave nothing behind, not even a rounding.
    rate = kl + sum(
        (weight - 1) * part
        for weight, part in zip((alpha, beta, gamma), parts.values(), strict=True)
    )
    return rate - jnp.mean(i.log_px), terms(i, rate) | parts | gaussian_terms(i, 1.0)


def aggregate(term: LatentTerm, log_weights: LogWeights) -> Aggregate:
    """log q(z) and sum_j log q(z_j) as mixtures over the batch, nats.

    Args:
      term: draws z_i of q(z | x_i), and q.
      log_weights: the logarithm of the weight of q(z_i | x_j), in row i.
    """
    each = pairwise_log_prob(marginals(term.q), term.z)
    whole = pairwise_log_prob(term.q, term.z) if term.q.event_dim else each.sum(-1)
    joint = logsumexp(whole + log_weights[None], axis=2)
    single = logsumexp(each + log_weights[None, :, :, None], axis=2)
    return Aggregate(joint, single.sum(-1))


def pairwise_log_prob(
    q: Distribution, z: Float[Array, "samples batch latents"]
) -> Float[Array, "samples batch batch *latents"]:
    """log q(z_i | x_j) of each draw of i and each j, elementwise or joint as q is."""

    def at_all(z: Array) -> Array:
        return q.log_prob(jnp.broadcast_to(z[None], (q.batch_shape[0], *z.shape)))

    return jax.vmap(jax.vmap(at_all))(z)


def minibatch_weights(batch: int, examples: int) -> LogWeights:
    """Minibatch weights 1 / (N M) [Chen et al. 2018b, eq. 3 and appendix C.1].

    The expected estimate of q(z) is below q(z), by a factor of about M.
    """
    return jnp.full((batch, batch), -jnp.log(float(batch) * examples))


def stratified_weights(batch: int, examples: int) -> LogWeights:
    """Stratified weights [Chen et al. 2018b, appendix C.2]: unbiased for q(z).

    z_i is drawn from q(z | x_i), which has the weight 1 / N; the other M = batch - 1
    examples share (N - 1) / N: one of them, here the next, has (N - M) / (N M), the
    others 1 / M. (The authors' code puts the weights of x_i in the first column.)
    An example alone, of which parameters are initialized, has no others.
    """
    others = max(batch - 1, 1)
    weights = jnp.full((batch, batch), 1 / others)
    row = jnp.arange(batch)
    odd = (examples - others) / (examples * others)
    weights = weights.at[row, (row + 1) % batch].set(odd)
    return jnp.log(weights.at[row, row].set(1 / examples))


ESTIMATORS: Mapping[str, Callable[[int, int], LogWeights]] = {
    "weighted": minibatch_weights,
    "stratified": stratified_weights,
}


def permuted_latents(model: LatentModel, batch: Batch, key: Key) -> Subjects:
    """z ~ q(z) against the product of its marginals [Kim & Mnih 2018, alg. 1].

    Each latent is permuted over the batch by itself: z_ij = z_{p_j(i), j}. The batch is
    that of the other player, as in disentanglement_lib; algorithm 2 draws another one.
    """
    z = infer(model, batch, key).z[0]
    noise = jax.random.uniform(jax.random.fold_in(key, OfObjective.ORDER), z.shape)
    return Subjects(
        z, {"permuted": jnp.take_along_axis(z, jnp.argsort(noise, axis=0), axis=0)}
    )


def factorized(
    model: LatentModel,
    batch: Batch,
    key: Key,
    *,
    gamma: float | Array = 10.0,
    beta: float | Array = 1.0,
) -> tuple[Array, Metrics]:
    """The VAE of a FactorVAE: a critic of z tells its total correlation, nats.

    loss = E_q[-log p(x | z)] + beta KL + gamma E_q(z)[log D(z) / (1 - D(z))]
    [Kim & Mnih 2018, eqs. 2 and 3], where the log odds are the score of a critic that
    tells z from `permuted_latents` by the logistic loss.

    Args:
      model: a bound model with one block of real latents and a part `critic`.
      batch: `x` `[batch, *shape]`, and what the model conditions on.
      key: a `jax.random.key`, the same for the critic's player.
      gamma: weight of the total correlation.
      beta: weight of the KL term; 1 in the paper.

    Returns:
      The loss, a scalar, and its terms: `loss` = `rate` + `distortion` + `penalty`, the
      last of which is gamma times `total_correlation`; nats.
    """
    i = infer(model, batch, key)
    rate = beta * jnp.mean(i.kl)
    correlation = jnp.mean(model.critic(i.z[0], batch).score)  # pyright: ignore
    penalty = gamma * correlation
    found = terms(i, rate) | {"total_correlation": correlation, "penalty": penalty}
    loss = found["loss"] + penalty
    return loss, found | {"loss": loss} | gaussian_terms(i, beta)
