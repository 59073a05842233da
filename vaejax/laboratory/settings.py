"""Settings of the laboratory."""

import dataclasses
from typing import Literal, get_args

from vaejax.errors import InputError, require
from vaejax.inference.gradients import GradientName
from vaejax.laboratory.ais import StartName
from vaejax.laboratory.encodings import CodesName, ScoreName
from vaejax.runtime.limits import check_count, check_setting

WhatName = Literal[
    "nll_over_k",
    "ais",
    "gaps",
    "rate_distortion",
    "posterior",
    "gradients",
    "disentanglement",
    "representation",
]
"""The measurements."""


@dataclasses.dataclass(frozen=True)
class Laboratory:
    """How much is measured, and how precisely.

    Args:
      examples: number of examples, the first of a fixed permutation of the split.
      chunk: examples that are measured, and then kept, at a time; the noise depends
        on it.
      chains: annealed chains for each example.
      temperatures: distributions between the prior and the posterior.
      leapfrog: steps of a trajectory between two of them.
      start: where annealing for ais begins: the prior, or the encoder's posterior.
      largest_beta: end of the rate-distortion curve; at 1 it is the posterior.
      fit_steps: steps of a fit of q to a single example, at most.
      fit_draws: draws of z for each of these steps.
      gradients: estimators of the gradient, whose noise is compared.
      gradient_samples: numbers K of importance samples of their bounds.
      gradient_draws: gradients that means and variances are taken over.
      scores: scores of disentanglement; dci and infomec may take minutes.
      labels: examples whose label representation knows, equally many of each class;
        0: two thirds of all.
      codes: what they and representation take of q(z | x): its mean, or a sample.
    """

    examples: int = 100
    chunk: int = 20
    chains: int = 16
    temperatures: int = 500
    leapfrog: int = 10
    start: StartName = "prior"
    largest_beta: float = 10.0
    fit_steps: int = 3000
    fit_draws: int = 16
    gradients: tuple[GradientName, ...] = ("pathwise", "dreg")
    gradient_samples: tuple[int, ...] = (1, 8, 64)
    gradient_draws: int = 200
    scores: tuple[ScoreName, ...] = get_args(ScoreName)
    codes: CodesName = "mean"
    labels: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            check_setting(field.name, field.type, value)
            if field.type is int:
                check_count(field.name, value, LEAST.get(field.name, 1))
        for name in ("gradients", "gradient_samples", "scores"):
            if not vars(self)[name]:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} is empty: give one or more")
        for count in self.gradient_samples:
            check_count("gradient_samples", count, 1)
        require(self.largest_beta >= 1, "largest_beta", self.largest_beta, "at least 1")


LEAST = {"labels": 0, "chains": 2, "temperatures": 8, "gradient_draws": 2}
