"""Checks and estimates of a script's work before it begins."""

import math
import sys
from functools import partial

import jax
import jax.numpy as jnp

from vaejax.cli.judging import Judges
from vaejax.cli.measuring import EvaluationSettings
from vaejax.errors import InputError
from vaejax.experiment import Experiment, variables_of
from vaejax.runtime.limits import check_count
from vaejax.runtime.memory import bytes_of, check_fits

PASSES = 10**10
"""Passes of a decoder that take hours, with the smallest networks, on any machine."""
PIXELS = 2**27
"""Pixels of a picture that programs still open."""


def check_measuring(
    experiment: Experiment,
    evaluation: EvaluationSettings,
    judges: Judges,
    flag: str = "samples",
) -> None:
    """InputError where an evaluation would end in one, or in want of memory."""
    samples, num, classifier = evaluation.samples, judges.num, judges.classifier
    check_count(flag, samples)
    warn_of_passes(samples, experiment.dataset.size(evaluation.split), flag)
    check_count("num", num, 2)
    if classifier is None:
        return
    from vaejax.metrics.classifier import check_judge, see
    from vaejax.metrics.features import LEAST
    from vaejax.training.workdir import load

    check_count("num", num, LEAST)
    judge, state = load(classifier)
    network = check_judge(experiment, judge, classifier)
    one = jnp.zeros((1, *judge.dataset.spec.shape))
    seen = jax.eval_shape(partial(see, network), variables_of(state), one)
    needed = num * bytes_of(seen.features[-1])
    check_fits(needed, f"--num {num:,} samples' features", "judge fewer")


def warn_of_passes(samples: int, examples: int, flag: str = "samples") -> None:
    """A line on stderr where importance sampling will take hours."""
    passes = samples * examples
    if passes > PASSES:
        flag = flag.replace("_", "-")
        print(
            f"warning: --{flag} {samples:,} for each of {examples:,} examples is "
            f"{passes:.1e} passes of the decoder, hours or more: 5000 is usual",
            file=sys.stderr,
            flush=True,
        )


def check_sampling(experiment: Experiment, num: int, picture: bool) -> None:
    """InputError where memory or a picture does not hold that many samples."""
    check_count("num", num, 1)
    shape = experiment.dataset.spec.shape
    # As float32 numbers, and again in the data's units.
    needed = num * math.prod(shape) * 8
    check_fits(needed, f"--num {num:,} samples", "draw fewer at a time")
    if not picture:
        return
    from vaejax.plots.grid import magnification

    pixels = num * math.prod(shape[:2]) * magnification(shape) ** 2
    if pixels > PIXELS:
        raise InputError(
            f"--num {num:,} samples as one picture are {pixels:.1e} pixels, which few "
            "programs open: give --out a name ending in .npz"
        )
