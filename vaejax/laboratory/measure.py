"""Measurements of a trained run, chunk by chunk of its examples."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from vaejax import parallel
from vaejax.errors import InputError, nearest
from vaejax.experiment import Experiment, TrainState, variables_of
from vaejax.laboratory.aggregate import index_code_terms
from vaejax.laboratory.ais import annealed_log_likelihood, bidirectional_bounds
from vaejax.laboratory.chunks import Chunks, tree_digest
from vaejax.laboratory.encodings import encode_examples
from vaejax.laboratory.gaps import inference_gaps
from vaejax.laboratory.gradients import gradient_ratios
from vaejax.laboratory.over_k import bounds_over_k
from vaejax.laboratory.rate_distortion import rate_distortion_curve
from vaejax.laboratory.settings import Laboratory, WhatName
from vaejax.models import conditions_of, infers
from vaejax.purposes import OfLaboratory, OfRun
from vaejax.runtime.limits import check_count
from vaejax.runtime.memory import check_fits
from vaejax.training.evaluator import held_out_examples
from vaejax.types import Batch

Numbers = dict[str, np.ndarray]
"""Numbers of each example, `[examples, ...]`, by name."""
Tell = Callable[[str, int, int], None]
"""Told of progress: the measurement, and how many of its examples are done."""
NOT_READ = ("index", "weight")
"""Entries of a batch that no model reads."""
POSTERIOR_DRAWS, ENCODER_DRAWS, ENCODED = 1, 200, 500


class Procedure(NamedTuple):
    """A part of a measurement: a function of model, variables, batch and key."""

    function: Callable[..., Any]
    settings: dict[str, Any]
    purpose: OfLaboratory
    examples: int
    against_all: bool = False
    """Whether it needs all examples at once, beside those of the chunk."""
    least_chunk: int = 1
    """Examples of a chunk, at least."""
    summary: Mapping[str, Any] = MappingProxyType({})
    """Settings of what follows from the numbers of all examples."""


def procedures_of(
    what: WhatName, lab: Laboratory, samples: int, num: int
) -> dict[str, Procedure]:
    """The parts of a measurement by name."""
    chains = {n: getattr(lab, n) for n in ("chains", "temperatures", "leapfrog")}
    count = lab.examples
    if what == "nll_over_k":
        plan = Procedure(
            bounds_over_k, {"samples": samples}, OfLaboratory.NLL_OVER_K, count
        )
        return {what: plan}
    if what == "ais":
        given = {**chains, "start": lab.start}
        simulated = min(count, lab.chunk)
        return {
            what: Procedure(annealed_log_likelihood, given, OfLaboratory.AIS, count),
            "ais_simulated": Procedure(
                bidirectional_bounds, given, OfLaboratory.SIMULATED, simulated
            ),
        }
    if what == "gaps":
        given = {"samples": samples, "draws": lab.fit_draws, "most": lab.fit_steps}
        return {what: Procedure(inference_gaps, given, OfLaboratory.GAPS, count)}
    if what == "rate_distortion":
        given = {"largest_beta": lab.largest_beta, "draws": ENCODER_DRAWS, **chains}
        plan = Procedure(
            rate_distortion_curve, given, OfLaboratory.RATE_DISTORTION, count
        )
        return {what: plan}
    if what == "gradients":
        given = {
            "samples": tuple(lab.gradient_samples),
            "gradients": tuple(lab.gradients),
            "draws": lab.gradient_draws,
        }
        batch = min(count, lab.chunk)
        return {what: Procedure(gradient_ratios, given, OfLaboratory.GRADIENTS, batch)}
    if what in ("disentanglement", "representation"):
        scores = {"scores": list(lab.scores)} if what == "disentanglement" else {}
        plan = Procedure(encode_examples, {}, OfLaboratory.ENCODINGS, num)
        few = {"labels": lab.labels} if what == "representation" and lab.labels else {}
        summary = {"codes": lab.codes, "seed": 0, **scores, **few}
        return {what: plan._replace(least_chunk=ENCODED, summary=summary)}
    given = {"draws": POSTERIOR_DRAWS, "marginals": True}
    return {what: Procedure(index_code_terms, given, OfLaboratory.POSTERIOR, num, True)}


def measure(
    experiment: Experiment,
    state: TrainState,
    what: Sequence[WhatName],
    lab: Laboratory = Laboratory(),
    *,
    samples: int = 5000,
    split: str = "test",
    num: int = 10_000,
    folder: Path | None = None,
    tell: Tell = lambda name, done, total: None,
) -> dict[str, Numbers]:
    """Measures a trained latent model, example by example.

    Args:
      experiment: what was trained.
      state: its parameters, as `train` and `load` return them.
      what: the measurements: nll_over_k, ais, gaps, rate_distortion, posterior,
        gradients, disentanglement, representation.
      lab: how much is measured, and how precisely.
      samples: importance samples of nll_over_k and gaps, for each example.
      split: train, validation or test.
      num: examples of posterior, disentanglement and representation, at most.
      folder: where chunks are kept, so that a measurement that was stopped goes on.
      tell: called after each chunk.

    Returns:
      The numbers of each example by measurement; `ais` comes with `ais_simulated`, of
      data of the model. `summary.means_and_doubts` makes means and sentences of them.

    Raises:
      InputError: the model has no latents, or none that could be measured so; no such
        measurement or split; a number is out of range.
    """
    check_count("samples", samples, 2)
    check_count("num", num, 2)
    if not infers(experiment.model):
        raise InputError(f"{experiment.name} has no encoder, and nothing to measure")
    for name in what:
        if name not in get_args(WhatName):
            raise InputError(
                f"no measurement {name!r}: {nearest(name, get_args(WhatName))}"
            )
    check_known(experiment, what)
    if "posterior" in what and "context" in conditions_of(experiment.model):
        raise InputError(
            f"{experiment.name} has another prior for each context, and no posterior "
            "of all examples to hold against it: leave posterior out of --what"
        )
    size = experiment.dataset.size(split)
    lab = dataclasses.replace(lab, examples=min(lab.examples, size))
    check_memory_of(experiment, lab)
    chunks = Chunks(folder, variables_of(state))
    found: dict[str, Numbers] = {}
    for name in what:
        plans = procedures_of(name, lab, samples, min(num, size))
        for part, plan in plans.items():
            progress = partial(tell, part)
            found[part] = carried_out(
                experiment, state, part, plan, lab.chunk, split, chunks, progress
            )
    return found


def check_known(experiment: Experiment, what: Sequence[str]) -> None:
    """InputError where the data has no factors, or no labels, that are asked for."""
    spec = experiment.dataset.spec
    if "disentanglement" in what and not spec.factors:
        raise InputError(
            f"disentanglement needs data with known factors, and {spec.name} has none: "
            "train on sprites, xy_squares, or arrays with factors_train"
        )
    if "representation" in what and not spec.classes:
        raise InputError(
            f"representation needs data with labels, and {spec.name} has none: train "
            "on labelled data"
        )


def carried_out(
    experiment: Experiment,
    state: TrainState,
    name: str,
    plan: Procedure,
    chunk: int,
    split: str,
    chunks: Chunks,
    progress: Callable[[int, int], None],
) -> Numbers:
    """A plan, chunk by chunk; those that are kept are read."""
    batch = permuted_examples(experiment, plan.examples, split)
    count = len(batch["x"])
    size = min(max(chunk, plan.least_chunk), count)
    key = jax.random.fold_in(jax.random.key(experiment.training.seed), OfRun.LABORATORY)
    key = jax.random.fold_in(key, plan.purpose)
    apply = parallel.compile_function(plan.function, experiment.model, **plan.settings)
    everything = (batch,) if plan.against_all else ()
    about = {
        "seed": experiment.training.seed,
        "everything": tree_digest(everything),
        **plan.settings,
    }
    parts = []
    progress(0, count)
    for number, start in enumerate(range(0, count, size)):
        rows = np.arange(start, start + size) % count  # the last one is filled up
        some = {n: a[rows] for n, a in batch.items()}
        if plan.against_all:
            some["row"] = jnp.asarray(rows)
        digest = chunks.digest(about, some)
        found = chunks.read(name, number, digest)
        if found is None:
            given = variables_of(state), some, jax.random.fold_in(key, number)
            found = jax.device_get(dict(apply(*given, *everything)))
            chunks.write(name, number, digest, found)
        kept = min(size, count - start)
        parts.append({n: np.asarray(a)[:kept] for n, a in found.items()})
        progress(start + kept, count)
    return {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}


def permuted_examples(experiment: Experiment, count: int, split: str) -> Batch:
    """The first examples of a fixed permutation of a split, as the model sees them."""
    batch = held_out_examples(experiment, count, split)
    return {n: jnp.asarray(a) for n, a in batch.items() if n not in NOT_READ}


def check_memory_of(experiment: Experiment, lab: Laboratory) -> None:
    """InputError where the chains of a chunk would not fit."""
    # x as its parameters, their slopes and what lies between: four arrays, at least.
    needed = 16 * math.prod(experiment.dataset.spec.shape) * lab.chains * lab.chunk
    advice = "give a smaller --chunk, or fewer --chains"
    check_fits(needed, f"{lab.chains:,} chains of {lab.chunk:,} examples", advice)


def measurement_settings(
    what: WhatName, lab: Laboratory, samples: int, num: int
) -> Mapping[str, Any]:
    """The settings of a measurement, for its record."""
    plan = procedures_of(what, lab, samples, num)[what]
    chunk = max(lab.chunk, plan.least_chunk)
    return {"chunk": chunk, **plan.settings, **plan.summary}
