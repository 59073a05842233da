"""Variational autoencoders and their adversarial and conditional relatives in JAX."""

import vaejax.starting  # noqa: F401  (first: what follows loads for seconds)

# isort: split
from importlib.metadata import PackageNotFoundError, version

from vaejax import objectives, presets
from vaejax.data import from_arrays
from vaejax.errors import InputError
from vaejax.evaluation import evaluate
from vaejax.experiment import Experiment, Metric, Player, TrainState
from vaejax.filling import impute
from vaejax.inference import Inference, infer
from vaejax.loop import train
from vaejax.objectives import elbo
from vaejax.query import attribute, decode, encode, log_likelihood, reconstruct, sample
from vaejax.reports import report
from vaejax.run import load
from vaejax.studies import study

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
    "TrainState",
    "attribute",
    "decode",
    "elbo",
    "encode",
    "evaluate",
    "from_arrays",
    "impute",
    "infer",
    "load",
    "log_likelihood",
    "objectives",
    "presets",
    "reconstruct",
    "report",
    "sample",
    "study",
    "train",
]
