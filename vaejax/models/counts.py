"""Likelihoods of counts, and of counts whose means share a row's total."""

import flax.linen as nn
import jax.numpy as jnp

from vaejax.distributions.counts import NegativeBinomial, Poisson
from vaejax.distributions.kl import with_rank
from vaejax.models.likelihoods import Likelihood
from vaejax.types import Array, Batch, Distribution


class PoissonCounts(Likelihood):
    """Poisson(exp(out)), or with the mean that a library size gives."""

    fits = frozenset({"count"})
    discrete = True

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        return Poisson(out)


class NegativeBinomialCounts(Likelihood):
    """Negative binomial of mean exp(out), an inverse dispersion learned per column."""

    fits = frozenset({"count"})
    discrete = True

    @nn.compact
    def __call__(self, out: Array, batch: Batch) -> Distribution:
        zeros = nn.initializers.zeros
        log_theta = self.param("log_inverse_dispersion", zeros, (out.shape[-1],))
        lead = (1,) * (out.ndim - 1)
        return NegativeBinomial(out, log_theta.reshape(*lead, -1))


class OfLibrary(Likelihood):
    """Counts whose means share a row's total: p(x | z, library).

    mu_j = l exp(out_j) / sum_k exp(out_k) [Lopez et al. 2018, scVI], l the sum of the
    row. With holes, l and the sum over k are of observed columns, so that the observed
    means sum to the observed total. A row without counts (where examples are generated,
    say) has the library size `typical`.
    """

    fits = frozenset({"count"})
    discrete = True
    typical: float
    counts: Likelihood

    def __call__(self, out: Array, batch: Batch) -> Distribution:
        x = batch["x"]
        mask = batch.get("mask", jnp.ones_like(x))
        total = jnp.sum(jnp.where(mask == 1, x, 0), -1, keepdims=True)
        known = total > 0
        log_total = jnp.log(jnp.where(known, total, self.typical))
        counted = jnp.where(known, mask, 1.0)
        log_total, counted = (with_rank(a, out.ndim) for a in (log_total, counted))
        log_sum = nn.logsumexp(out, -1, keepdims=True, b=counted)
        return self.counts(log_total + out - log_sum, batch)
