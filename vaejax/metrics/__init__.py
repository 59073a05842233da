"""Metrics: pure functions folded over a split, and distances between features."""

from vaejax.metrics.adversarial import autoencoding, critic_scores
from vaejax.metrics.base import averages
from vaejax.metrics.blocks import block_metrics
from vaejax.metrics.codes import code_usage
from vaejax.metrics.evidence import importance_log_likelihood
from vaejax.metrics.exact import exact_likelihood
from vaejax.metrics.features import compare_features
from vaejax.metrics.flow_matching import ode_likelihood, velocity_error
from vaejax.metrics.images import (
    absolute_error,
    image_quality,
    multiscale_similarity,
    peak_signal_to_noise,
    quality_metrics,
    structural_similarity,
)
from vaejax.metrics.imputation import imputation
from vaejax.metrics.labels import classification, marginal_elbo
from vaejax.metrics.likelihood import (
    baseline_nll,
    elbo_terms,
    importance_bound,
    likelihood_metrics,
    monte_carlo_nll,
    nll,
    reconstruction_error,
)
from vaejax.metrics.neighbours import density_coverage, precision_recall
from vaejax.metrics.representation import (
    active_units,
    count,
    representation_metrics,
)
from vaejax.metrics.samples import frechet_distance, kernel_distance

__all__ = [
    "absolute_error",
    "active_units",
    "autoencoding",
    "averages",
    "baseline_nll",
    "block_metrics",
    "classification",
    "code_usage",
    "compare_features",
    "count",
    "critic_scores",
    "density_coverage",
    "elbo_terms",
    "exact_likelihood",
    "frechet_distance",
    "image_quality",
    "importance_bound",
    "importance_log_likelihood",
    "imputation",
    "kernel_distance",
    "likelihood_metrics",
    "marginal_elbo",
    "monte_carlo_nll",
    "multiscale_similarity",
    "nll",
    "ode_likelihood",
    "peak_signal_to_noise",
    "precision_recall",
    "quality_metrics",
    "reconstruction_error",
    "representation_metrics",
    "structural_similarity",
    "velocity_error",
]
