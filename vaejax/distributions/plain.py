"""Distributions of numpyro that are used as they are, without its validation."""

from functools import partial

import numpyro.distributions as dist

Normal = partial(dist.Normal, validate_args=False)
Laplace = partial(dist.Laplace, validate_args=False)
Delta = partial(dist.Delta, validate_args=False)
