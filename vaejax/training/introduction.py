"""The lines that a run says of itself: what trains, where it is kept, how it ends."""

import signal
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from vaejax.data.remarks import table_introduction as table_lines
from vaejax.data.spec import Spec
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.environment import device_words
from vaejax.training.schedules import stage_words


def introduction(
    experiment: Experiment,
    folder: Path | None,
    step: int,
    state: TrainState,
    mesh: Mesh,
    more: Sequence[str] = (),
    exhausted: bool = False,
) -> list[str]:
    """Data, parameters, devices and folder of a run, `more`, and where it goes on, if
    its patience is not exhausted.
    """
    spec = experiment.dataset.spec
    sizes = ", ".join(f"{size:,} {split}" for split, size in spec.sizes.items())
    lines = [
        f"{experiment.name or 'experiment'} on {spec.name} ({sizes}); "
        f"{count_parameters(state):,} parameters; {device_words(mesh)}; "
        f"{'nothing is kept' if folder is None else f'writes to {folder}'}",
        *experiment.notes,
        *(each.check() for each in experiment.frozen.values()),
        *decay_lines(experiment),
        *table_lines(spec),
        *factor_lines(spec),
        *more,
    ]
    if step >= experiment.steps:
        return [*lines, f"finished already, at step {step}"]
    if exhausted:
        past = experiment.training.patience
        why = f"the last {past} evaluations were no better, and more epochs change that"
        return [*lines, f"stopped early already, at step {step}: {why} not"]
    return [*lines, f"resuming at step {step}"] if step else lines


def factor_lines(spec: Spec) -> list[str]:
    """The line about known factors, where there are any."""
    words = ", ".join(f"{factor.name} ({factor.size})" for factor in spec.factors)
    return [f"known factors: {words}"] if words else []


def decay_lines(experiment: Experiment) -> list[str]:
    """The line about stages of the learning rate, where it falls in such."""
    training = experiment.training
    return [stage_words(training.epochs)] if training.decay == "stages" else []


def prolonged_words(experiment: Experiment, before: int) -> str:
    """The line about a run that takes other epochs than it had."""
    decay, epochs = experiment.training.decay, experiment.arguments["epochs"]
    laid_out = f": --decay {decay} is that of the new length from here on"
    line = f"goes on to {epochs} epochs, {before} until now"
    return line + laid_out if decay == "cosine" else line


def stopped_words(folder: Path | None, step: int, signum: int) -> str:
    """The message when a signal stopped a run."""
    name = signal.Signals(signum).name
    if folder is None:
        return f"stopped by {name} at step {step}; nothing is kept without a workdir"
    return (
        f"stopped by {name} at step {step}, saved in {folder}: "
        "the same command goes on from there"
    )


def advice_words(folder: Path | None, steps: Sequence[int]) -> str:
    """Advice for a training that diverged, which has checkpoints of these steps."""
    where = (
        f"The last checkpoint is that of step {steps[-1]} in {folder}"
        if steps
        else "There is no checkpoint before it"
    )
    return (
        f"{where}; try a lower --learning-rate or --clip 1, or find the operation "
        "with --debug-nans"
    )


def count_parameters(state: TrainState) -> int:
    """Numbers that players move."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
