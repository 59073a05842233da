"""Metrics: pure functions folded over a split."""

from vaejax.metrics.base import averages
from vaejax.metrics.likelihood import (
    elbo_terms,
    likelihood_metrics,
    log_likelihood,
    nll,
    reconstruction,
)
from vaejax.metrics.representation import active_units, count

__all__ = [
    "active_units",
    "averages",
    "count",
    "elbo_terms",
    "likelihood_metrics",
    "log_likelihood",
    "nll",
    "reconstruction",
]
