"""Filling holes with a trained model."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.apply.capabilities import weighs
from vaejax.data.entries import checked_key, checked_like_x, checked_x, real_array
from vaejax.distributions.columns import decide
from vaejax.errors import InputError
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.inference.gibbs import chain
from vaejax.inference.imputation import LEAST_ESS
from vaejax.inference.imputation import importance_imputation as by_importance
from vaejax.models import completes, conditional, infers, weighs_latents
from vaejax.runtime.limits import check_count
from vaejax.runtime.memory import check_fits
from vaejax.types import ArrayLike, Key

Method = Literal["importance", "pseudo_gibbs", "metropolis"]
BATCH_SIZE = 100


TOO_LARGE = (
    "an observed value that is too large for the model's arithmetic (float32), or far "
    "from all it was trained on: mend or leave out that value"
)


class Filled(NamedTuple):
    """Examples in the model's units whose observed entries are as they were given."""

    single: np.ndarray
    """`[N, *shape]`: means of numbers, the most probable of categories."""
    draws: np.ndarray
    """`[multiple, N, *shape]` from p(x_missing | x_observed)."""
    ess: np.ndarray
    """`[N]`, effective sample sizes (nan without holes, and of Markov chains)."""


def impute(
    experiment: Experiment,
    state: TrainState,
    x: ArrayLike,
    mask: ArrayLike,
    key: Key,
    *,
    multiple: int = 0,
    samples: int = 1000,
    method: Method = "importance",
    batch_size: int = BATCH_SIZE,
) -> Filled:
    """Fills what is not observed, by the single best guess and by draws.

    Args:
      experiment: what was trained.
      state: its parameters.
      x: `[N, *shape]` in the model's units, anything in the holes.
      mask: like x, 1 where observed.
      key: of all noise.
      multiple: draws of each example (multiple imputation), by sampling importance
        resampling or from the chain.
      samples: importance samples, or steps of the Markov chain.
      method: `importance` sampling, or the Markov chains `pseudo_gibbs` [Rezende et
        al. 2014] and `metropolis` within Gibbs [Mattei & Frellsen 2018], which encode
        completed examples.
      batch_size: examples at a time; a part of the noise's definition.

    Returns:
      `single` `[N, *shape]`, `draws` `[multiple, N, *shape]` and the effective sample
      sizes `ess` `[N]`; observed entries are as they were given.

    Raises:
      InputError: a number is out of range, x is not in the model's units, or the model
        has no density or no Markov chain.
    """
    check_count("samples", samples, 1)
    check_count("multiple", multiple, 0)
    key = checked_key(key)
    check_imputes(experiment, state, method)
    x, mask = checked_examples(experiment, x, mask)
    check_room(multiple, x, batch_size)
    model = experiment.model
    settings = {"samples": samples, "draws": max(1, multiple)}
    if method == "importance":
        run = parallel.compile_function(by_importance, model, **settings)
    else:
        settings["accept"] = method == "metropolis"
        run = parallel.compile_function(chain, model, **settings)
    columns = experiment.dataset.spec.columns
    singles, draws, ess = [], [], []
    for start in range(0, len(x), batch_size):
        some = np.arange(start, start + batch_size) % len(x)
        seen = jnp.asarray(mask[some], jnp.float32)
        here = jnp.where(seen == 1, x[some], 0)
        batch = {"x": here, "mask": seen}
        found = run(variables_of(state), batch, jax.random.fold_in(key, start))
        mean = decide(found.mean, columns) if columns else found.mean
        real = min(batch_size, len(x) - start)
        singles.append(np.where(seen == 1, here, mean)[:real])
        draws.append(np.asarray(found.draws)[:multiple, :real])
        whole = np.asarray(seen).reshape(len(some), -1).all(1)
        # Weights that are no numbers are worth none; chains have no weights.
        sizes = np.nan_to_num(found.ess) if method == "importance" else found.ess
        ess.append(np.where(whole, np.nan, sizes)[:real])
    filled = Filled(
        np.concatenate(singles), np.concatenate(draws, 1), np.concatenate(ess)
    )
    check_filled(filled, x)
    return filled


def check_imputes(experiment: Experiment, state: TrainState, method: Method) -> None:
    """InputError where the model cannot fill holes, or not by this method."""
    model = experiment.model
    if not infers(model):
        raise InputError(f"{experiment.name} has no posterior to impute by: use miwae")
    if not weighs(experiment, state):
        raise InputError(
            f"{experiment.name} has a point mass where importance weights need a "
            "density: use vae or miwae"
        )
    if conditional(model):
        raise InputError(f"{experiment.name} needs labels, which are not imputed")
    if method != "importance" and completes(model):
        raise InputError(f"{experiment.name} draws from its prior: use importance")
    if method == "metropolis" and not weighs_latents(model):
        raise InputError(
            f"{experiment.name} has several blocks of latents, which metropolis cannot "
            "weigh: use importance or pseudo_gibbs"
        )


def check_room(multiple: int, x: np.ndarray, batch_size: int = BATCH_SIZE) -> None:
    """InputError if that many draws of all of `x` exceed the available memory."""
    needed = max(1, multiple) * max(x.nbytes, x[:1].nbytes * batch_size)
    check_fits(needed, f"--multiple {multiple:,} imputations", "draw fewer")


def in_float32(x: ArrayLike, mask: np.ndarray) -> np.ndarray:
    """The examples in the model's precision; InputError where one seen is too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.asarray(x).astype(np.float32)
    lost = np.isinf(x) & mask
    if lost.any():
        row = int(np.argwhere(lost)[0][0])
        raise InputError(f"row {row + 1} of the input has {TOO_LARGE}")
    return x


def check_filled(filled: Filled, x: np.ndarray) -> None:
    """InputError where a hole was filled by what is no number."""
    parts = (filled.single, *filled.draws)
    bad = [~np.isfinite(part).reshape(len(x), -1).all(1) for part in parts]
    rows = np.flatnonzero(np.any(bad, axis=0))
    if len(rows):
        raise InputError(
            f"{len(rows)} of {len(x)} examples cannot be filled: row {rows[0] + 1} of "
            f"the input has {TOO_LARGE}"
        )


def checked_examples(
    experiment: Experiment, x: ArrayLike, mask: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """x in float32 and bool like it, False in its holes and where x is NaN; InputError
    where x is not in the model's units, whatever is in the holes.
    """
    x = real_array(x, "x")
    seen = np.asarray(checked_like_x("mask", mask, x.shape)) == 1
    there = np.where(seen, in_float32(x, seen), np.nan)
    binary = experiment.preprocess.values == "binary"
    spec = experiment.dataset.spec
    values, holes = checked_x(there, spec, binary=binary, told=True)
    return np.asarray(values), seen if holes is None else ~np.asarray(holes)


def collapse(filled: Filled, samples: int) -> str:
    """A warning where importance weights collapse; empty where they do not."""
    few = int((filled.ess < LEAST_ESS).sum())
    if not few:
        return ""
    return (
        f"warning: importance weights collapse for {few} of {len(filled.ess)} examples "
        f"(effective sample size below {LEAST_ESS:g} of {samples}): raise --samples"
    )
