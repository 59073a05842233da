"""The first lines of a run: what trains, on which data, and where it is kept."""

from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from vaejax.data.remarks import table_introduction as table_lines
from vaejax.experiment import Experiment, TrainState
from vaejax.runtime.environment import device_words


def introduction(
    experiment: Experiment,
    folder: Path | None,
    step: int,
    state: TrainState,
    mesh: Mesh,
    more: Sequence[str] = (),
) -> list[str]:
    """Data, parameters, devices and folder of a run, `more`, and where it goes on."""
    spec = experiment.dataset.spec
    sizes = ", ".join(f"{size:,} {split}" for split, size in spec.sizes.items())
    lines = [
        f"{experiment.name or 'experiment'} on {spec.name} ({sizes}); "
        f"{count_parameters(state):,} parameters; {device_words(mesh)}; "
        f"{'nothing is kept' if folder is None else f'writes to {folder}'}",
        *experiment.notes,
        *table_lines(spec),
        *more,
    ]
    if step >= experiment.steps:
        return [*lines, f"finished already, at step {step}"]
    return [*lines, f"resuming at step {step}"] if step else lines


def count_parameters(state: TrainState) -> int:
    """Numbers that players move."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
