"""Densities that numpyro.distributions lacks, and the two rules for using its own.

Rule one: every distribution is made with `validate_args=False`. With validation,
numpyro wraps `log_prob` in `where(in support, ..., -inf)`, which turns grey pixels
into minus infinity and hides where a NaN came from.
Rule two: `log_prob` is elementwise, so that masks can select what is observed.
"""

from vaejax.distributions.bernoulli import Bernoulli, ContinuousBernoulli, log_odds
from vaejax.distributions.kl import kl_divergence, kl_of_gaussians
from vaejax.distributions.known import Known
from vaejax.distributions.levels import Levels, LogisticMixture, lower_triangular
from vaejax.distributions.plain import Delta, Laplace, Normal
from vaejax.distributions.properties import (
    draw_with_log_prob,
    encoding,
    expectation,
    has_density,
    relaxes,
    reparameterized,
    scale_of,
)
from vaejax.distributions.student_t import StudentT, log_gamma_ratio

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "Delta",
    "Known",
    "Laplace",
    "Levels",
    "LogisticMixture",
    "Normal",
    "StudentT",
    "draw_with_log_prob",
    "encoding",
    "expectation",
    "has_density",
    "kl_divergence",
    "kl_of_gaussians",
    "log_gamma_ratio",
    "log_odds",
    "lower_triangular",
    "relaxes",
    "reparameterized",
    "scale_of",
]
