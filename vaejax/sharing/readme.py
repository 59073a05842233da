"""`README.md` of a shared folder: the model card that a hub shows."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from vaejax.data.spec import Spec
from vaejax.experiment import Experiment
from vaejax.models import conditions_of, generates, infers
from vaejax.presets import PRESETS
from vaejax.presets.citations import bibtex
from vaejax.reports.page import NAMED, RecordedSetting, duration, rounded, words

MARKUP = re.compile(r"([\\`*_\[\]<>|~$&])")


class Verbatim(str):
    """A text that is Markdown already, or stands where nothing is read as Markdown."""


class Shown(NamedTuple):
    """A picture of the card: a file of the folder, and what it shows."""

    file: str
    name: str
    caption: str


def readme(
    card: Mapping[str, Any],
    changed: Sequence[RecordedSetting],
    experiment: Experiment,
    step: int,
    pictures: Sequence[Shown] = (),
    license: str = "",
    address: str = "",
) -> str:
    """The card in Markdown, all from the run's `card.json` and its configuration.

    Args:
      card: of the run, with no path in it.
      changed: settings that are not the defaults.
      experiment: whose data set is named as others may read it.
      step: of the parameters that are shared.
      pictures: those that are in the folder.
      license: of the model, as the hub names licenses; empty where none is given.
      address: of the hub, where it is known.
    """
    environment = Environment(
        loader=PackageLoader("vaejax.sharing"),
        autoescape=False,
        undefined=StrictUndefined,
        finalize=plain_text,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"words": words, "duration": duration, "rounded": rounded}
    environment.filters |= {"verbatim": Verbatim, "yaml": quoted_yaml}
    spec = experiment.dataset.spec
    made = card["starts"][-1] if card["starts"] else {}
    return environment.get_template("README.md").render(
        card=card,
        changed=changed,
        spec=spec,
        step=step,
        pictures=pictures,
        license=license,
        address=address or "hf://OWNER/NAME",
        about=paragraph(card["preset"]),
        tags=tags_of(card["preset"], spec),
        most=NAMED,
        classes=list(spec.class_names[:NAMED]) if spec.names else [],
        made=made,
        calls=calls_of(experiment),
        citation=bibtex(card["preset"]),
    )


def plain_text(value: Any) -> str:
    """A value as Markdown that shows it, on one line; verbatim texts as they are."""
    if isinstance(value, Verbatim):
        return value
    return MARKUP.sub(r"\\\1", " ".join(str(value).split()))


def quoted_yaml(value: str) -> Verbatim:
    """A text of the front matter: YAML reads quoted texts of JSON."""
    return Verbatim(json.dumps(value))


def paragraph(preset: str) -> str:
    """The first paragraph of a preset's docstring, on one line."""
    text = inspect.getdoc(PRESETS[preset]) or ""
    return " ".join(text.partition("\n\n")[0].split())


def tags_of(preset: str, spec: Spec) -> list[str]:
    """Words under which the hub lists the model."""
    return ["vaejax", "jax", "flax", "generative-model", preset, spec.kind]


def calls_of(experiment: Experiment) -> list[str]:
    """Lines of Python that show the model's use, as far as it needs no more."""
    needs = set(conditions_of(experiment.model))
    known, rest = "", ""
    if "y" in needs:
        known, rest = ", y", "  # y: the data's own labels"
    calls = []
    if generates(experiment.model) and needs <= {"y"}:
        calls.append("samples = vaejax.sample(experiment, state, key, 16)")
    if infers(experiment.model):
        calls.append(f"given = experiment.inputs(x{known}){rest}")
        calls.append("codes = vaejax.encode(experiment, state, given)")
    return calls
