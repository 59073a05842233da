"""Pages of HTML: facts and pictures through templates, everything escaped."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


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
