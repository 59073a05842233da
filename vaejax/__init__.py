"""Variational autoencoders and their adversarial and conditional relatives in JAX."""

import vaejax.runtime.starting  # noqa: F401  (first: what follows loads for seconds)

# isort: split
from importlib.metadata import PackageNotFoundError, version

from vaejax import objectives, presets
from vaejax.apply.impute import impute
from vaejax.apply.predict import predict
from vaejax.apply.query import (
    attribute,
    decode,
    encode,
    log_likelihood,
    reconstruct,
    sample,
)
from vaejax.data import from_arrays
from vaejax.errors import InputError
from vaejax.experiment import Experiment, Metric, Player, Quantity, TrainState
from vaejax.inference.terms import Inference, infer
from vaejax.objectives import elbo
from vaejax.reports import compare, report
from vaejax.samplers.fit import fit_sampler
from vaejax.sharing.diffusers import from_diffusers, to_diffusers
from vaejax.stages.decoding import decoded
from vaejax.sweeps.sweep import study
from vaejax.training.evaluator import evaluate
from vaejax.training.loop import train
from vaejax.training.per_example import per_example
from vaejax.training.workdir import load

try:
    __version__ = version("vaejax")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"

__all__ = [
    "Experiment",
    "Inference",
    "InputError",
    "Metric",
    "Player",
    "Quantity",
    "TrainState",
    "attribute",
    "compare",
    "decode",
    "decoded",
    "elbo",
    "encode",
    "evaluate",
    "fit_sampler",
    "from_arrays",
    "from_diffusers",
    "impute",
    "infer",
    "load",
    "log_likelihood",
    "objectives",
    "per_example",
    "predict",
    "presets",
    "reconstruct",
    "report",
    "sample",
    "study",
    "to_diffusers",
    "train",
]
