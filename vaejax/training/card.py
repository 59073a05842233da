"""`card.json`: what a run was made of and what it came to, in one file."""

import logging
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.runtime.jsonlines import read_object
from vaejax.training.facts import Evaluation, Facts, gather_facts
from vaejax.training.workdir import write_json

NAME = "card.json"
FORMAT = 1
DATA = ("name", "digest", "sizes", "classes")

log = logging.getLogger(__name__)


def card_of(facts: Facts) -> dict[str, Any]:
    """The card of a run: JSON values, None for what its files do not say.

    `starts` are the versions, source and devices of each start of training. Seconds and
    examples/s are those of training.
    """
    timing, arguments = facts.timing, facts.arguments
    return {
        "format": FORMAT,
        "preset": facts.preset,
        "settings": arguments,
        "likelihood": facts.likelihood,
        "precision": arguments.get("precision"),
        "seed": arguments.get("seed"),
        "data": {name: facts.data[name] for name in DATA if name in facts.data},
        "parameters": facts.parameters,
        "starts": [start_of(row) for row in facts.environments],
        "training": {
            "status": facts.status,
            "step": facts.last,
            "steps": facts.steps,
            "seconds": timing and timing.seconds,
            "examples_per_s": timing and timing.speed,
        },
        "evaluation": facts.evaluation and evaluated(facts.evaluation),
    }


def start_of(row: Any) -> dict[str, Any]:
    """A row of `environment.jsonl`, without what is the same in all."""
    return {name: value for name, value in row.items() if name != "split"}


def evaluated(found: Evaluation) -> dict[str, Any]:
    """The numbers of an evaluation, each with its standard error where it is known.

    `during_training` is True where no evaluation followed it.
    """
    values = {
        each.name: {
            "value": each.value,
            **({} if each.error is None else {"standard_error": each.error}),
            **({"meaning": each.meaning} if each.meaning else {}),
        }
        for each in found.values
    }
    return {
        "split": found.split,
        "step": found.step,
        "examples": found.examples,
        "importance_samples": found.samples,
        "during_training": not found.final,
        "values": values,
    }


def keep_card(workdir: Path) -> None:
    """Writes the card of a run, once the run has come to its first report.

    A run is worth more than its card: what keeps that from being written is a warning.
    """
    if not (workdir / "metrics.jsonl").exists():
        return
    try:
        card = card_of(gather_facts(workdir))
        if read_object(workdir / NAME) != card:  # else a finished run stays untouched
            write_json(workdir / NAME, card)
    except (InputError, OSError) as error:
        log.warning("no card of %s: %s", workdir, " ".join(str(error).split()))
