"""Pages of HTML: facts and pictures through templates, everything escaped."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from vaejax.training.config import defaults_of

NAMED = 20  # at most that many classes are listed


class RecordedSetting(NamedTuple):
    """One setting of the preset."""

    name: str
    value: Any
    default: Any

    @property
    def changed(self) -> bool:
        return self.value != self.default


def page(template: str, **content: Any) -> str:
    """A whole page. What the templates are given is text, never markup."""
    environment = Environment(
        loader=PackageLoader("vaejax.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "words": words,
        "duration": duration,
        "rounded": rounded,
    }
    now = datetime.now().astimezone()
    return environment.get_template(template).render(now=now, **content)


def settings_of_card(card: Mapping[str, Any]) -> list[RecordedSetting]:
    """The settings of a run, each with the default of its preset."""
    defaults = defaults_of(card["preset"])
    return [
        RecordedSetting(name, value, defaults.get(name))
        for name, value in card["settings"].items()
    ]


def class_words(data: Mapping[str, Any]) -> str:
    """The number of classes, and their names where these are not their numbers."""
    count, names = data["classes"], data["names"] or []
    if not (count and names):
        return str(count or "")
    more = f" and {count - NAMED} more" if count > NAMED else ""
    return f"{count}: {', '.join(names[:NAMED])}{more}"


def words(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(words, value)) or "none"
    if isinstance(value, float):
        return f"{value:.12g}"
    return "not set" if value is None else str(value)


def rounded(value: float | str, error: float | None = None) -> str:
    """A number to the second digit of its standard error, else to five digits.

    Errors below 1e-6 say that all examples are alike, and are no guide to digits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if error and error >= 1e-6 and math.isfinite(error):
        decimals = max(0, 1 - math.floor(math.log10(error)))
        return f"{value:.{decimals}f}"
    return f"{value:.5g}"


def duration(seconds: float) -> str:
    """As in `1 h 02 min`, `3 min 20 s` or `4.1 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
