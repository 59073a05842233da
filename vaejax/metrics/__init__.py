"""Metrics: pure functions folded over a split."""

from vaejax.metrics.adversarial import autoencoding, classification, critic_scores
from vaejax.metrics.base import averages
from vaejax.metrics.evidence import importance_log_likelihood
from vaejax.metrics.imputation import imputation
from vaejax.metrics.likelihood import (
    baseline_nll,
    elbo_terms,
    importance_bound,
    likelihood_metrics,
    monte_carlo_nll,
    nll,
    reconstruction_error,
)
from vaejax.metrics.representation import (
    active_units,
    count,
    representation_metrics,
)

__all__ = [
    "active_units",
    "autoencoding",
    "averages",
    "baseline_nll",
    "classification",
    "count",
    "critic_scores",
    "elbo_terms",
    "importance_bound",
    "importance_log_likelihood",
    "imputation",
    "likelihood_metrics",
    "monte_carlo_nll",
    "nll",
    "reconstruction_error",
    "representation_metrics",
]
