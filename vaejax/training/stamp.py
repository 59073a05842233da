"""Whether an experiment is still the one that its preset and arguments make."""

import dataclasses

from vaejax.errors import InputError
from vaejax.experiment import Experiment


def check_stamp(experiment: Experiment) -> None:
    """InputError where the preset and arguments that `config.json` would name make
    another model, or other players, than the experiment has.

    Fewer epochs pass: that run ends before its time, and can be resumed.
    """
    from vaejax.presets import PRESETS

    if not experiment.name:
        raise InputError("only experiments made by a preset can be kept in a workdir")
    if experiment.name not in PRESETS:
        return
    # The data is as it was held out and hidden before.
    as_is = {"dataset": experiment.dataset, "validation": 0.0, "hide": "none"}
    known = {n: v for n, v in as_is.items() if n in experiment.arguments}
    made = PRESETS[experiment.name](**{**experiment.arguments, **known})
    epochs = experiment.training.epochs
    pairs = {
        "model": (experiment.model, made.model),
        "players": (owners(experiment), owners(made)),
        "training": (
            experiment.training,
            dataclasses.replace(made.training, epochs=epochs),
        ),
    }
    changed = [name for name, (here, there) in pairs.items() if here != there]
    if changed:
        raise InputError(
            f"the experiment's {' and '.join(changed)} did not come from "
            f"{experiment.name} and its arguments, so that no workdir could load it "
            "again: write a preset for it, or train without a workdir"
        )


def owners(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Which parts each player owns."""
    return {name: player.owns for name, player in experiment.players.items()}
