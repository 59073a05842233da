"""`card.json`: what a run was made of and what it came to, in one file."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaejax.errors import InputError
from vaejax.runtime.jsonlines import read_object
from vaejax.training.facts import Evaluation, Facts, Value, gather_facts
from vaejax.training.workdir import write_json

NAME = "card.json"
FORMAT = 2
DATA = (
    *("name", "kind", "shape", "digest", "sizes", "classes", "names"),
    *("masked", "hidden", "remarks"),
)
REPEATED = ("split", "parameters")
"""Of a row of `environment.jsonl`: the same in all, or said once."""

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
        "data": {name: facts.data.get(name) for name in DATA},
        "parameters": facts.parameters,
        "starts": [start_of(row) for row in facts.environments],
        "training": {
            "status": facts.status,
            "step": facts.last,
            "steps": facts.steps,
            "seconds": timing and timing.seconds,
            "starts": timing and timing.starts,
            "examples_per_s": timing and timing.speed,
            "first_examples_per_s": timing and timing.first,
        },
        "evaluation": facts.evaluation and evaluated(facts.evaluation),
    }


def start_of(row: Any) -> dict[str, Any]:
    """A row of `environment.jsonl`, without what is the same in all."""
    return {name: value for name, value in row.items() if name not in REPEATED}


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


def keep_card(workdir: Path) -> dict[str, Any] | None:
    """Writes the card of a run, once the run has come to its first report.

    A run is worth more than its card: what keeps that from being written is a warning.

    Returns:
      The card; None where there is none, or its files are damaged.
    """
    if not (workdir / "metrics.jsonl").exists():
        return None
    card = None
    try:
        card = card_of(gather_facts(workdir))
        if read_object(workdir / NAME) != card:  # else a finished run stays untouched
            write_json(workdir / NAME, card)
    except (InputError, OSError) as error:
        log.warning("no card of %s: %s", workdir, " ".join(str(error).split()))
    return card


def kept_card(workdir: Path) -> dict[str, Any]:
    """The card that a run's last end has written; of older runs, one from their files.

    Raises:
      InputError: the path holds no run, one without metrics, or damaged files.
    """
    found = read_object(workdir / NAME)
    known = found.get("format") == FORMAT
    return found if known else card_of(gather_facts(workdir))


def card_values(card: Mapping[str, Any]) -> list[Value]:
    """The numbers of a card's evaluation, in their order; none without one."""
    found = (card["evaluation"] or {}).get("values", {})
    return [
        Value(n, v["value"], v.get("standard_error"), v.get("meaning", ""))
        for n, v in found.items()
    ]
