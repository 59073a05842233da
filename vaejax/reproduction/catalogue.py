"""The rows, runs and measurements that `rows/*.toml` describe.

A file is a group of the results' page: `title` and `text`, then tables `runs`, `rows`
and `measurements`, by name. A row or run with `over`, arrays by name, stands for
several: `{name}` in its name and its fields is replaced by each value in turn.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from vaejax.errors import InputError, nearest

Budget = Literal["full", "truncated"]
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "S": "the paper's own text, or its authors' code",
        "2nd": "a third party's account",
        "exact": "a closed form",
        "own": "none published: a measurement of ours",
    }
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a run is made and measured: the same for all rows that read it.

    `settings` are those of the preset, which `truncated` replaces in part for the
    smaller budget. `measure` names a function of `vaejax.reproduction.measures`, and
    `options` are its arguments. Seeds train in turn, or side by side if `together`.
    """

    name: str
    preset: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    truncated: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: str = "evaluation"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: int = 3
    together: bool = False
    first: str = ""
    """The plan of a first stage, which is trained before: its latents are the data.
    With fewer seeds than this plan it begins again from 0. Empty where data are named
    in the settings."""
    encoded: Literal["latents", "draws"] = "latents"
    """Latents of the first plan as data: means of its posterior, or draws of it."""
    trained: str = ""
    """The plan whose runs are measured here in another way; empty if it is this."""
    needs: str = ""
    """What else is needed, in words; empty where TFDS or nothing is."""

    def __post_init__(self) -> None:
        if self.first and (self.together or "dataset" in self.settings):
            raise ValueError(
                f"{self.name} has a first stage, whose latents are its data, in turn: "
                "leave out together and dataset"
            )

    def seed_as_first(self, seed: int) -> int:
        """Its own seed where it is the first stage of a run of that seed."""
        return seed % self.seeds

    def at(self, budget: Budget) -> dict[str, Any]:
        """The settings of a budget; InputError where the run has none that is smaller.

        The message names what there is.
        """
        if budget == "full":
            return dict(self.settings)
        if not self.truncated:
            raise InputError(f"{self.name} has no smaller budget: leave out --budget")
        return {**self.settings, **self.truncated}


@dataclasses.dataclass(frozen=True)
class Row:
    """One number: what was published, and which quantity of which run is ours."""

    name: str
    title: str
    run: str
    quantity: str
    """A name of the run's measures; with a minus before it, its negative."""
    paper: str = ""
    table: str = ""
    cell: str = ""
    protocol: str = ""
    published: str = ""
    label: str = "own"
    source: str = ""
    unit: str = ""
    better: Literal["lower", "higher", "equal"] = "lower"
    reason: str = ""
    """Why the number is not the published one, where that was found."""
    readme: str = ""
    """Its words in the README's table; empty where it is not in it."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Tables that a command makes, of this machine or of the code itself.

    Without a title they stand directly below that of the group; without a command they
    were noted by hand.
    """

    name: str
    title: str = ""
    command: str = ""
    text: str = ""
    readme: str = ""
    reference: str = ""
    """The README's column of published numbers."""


class Section(NamedTuple):
    """A section of the results."""

    name: str
    title: str
    text: str
    rows: Mapping[str, Row]
    measurements: Mapping[str, Measurement]


class Catalogue(NamedTuple):
    """Everything that can be reproduced."""

    groups: Mapping[str, Section]
    plans: Mapping[str, Plan]

    @property
    def rows(self) -> dict[str, Row]:
        """All rows by name."""
        return {
            n: row for group in self.groups.values() for n, row in group.rows.items()
        }

    @property
    def measurements(self) -> dict[str, Measurement]:
        """All measurements by name."""
        every = (group.measurements for group in self.groups.values())
        return {name: one for each in every for name, one in each.items()}

    def chosen(self, names: tuple[str, ...]) -> list[Row]:
        """The rows of these names, where a group's name stands for its rows.

        Raises:
          InputError: there is no row or group of a name.
        """
        found: dict[str, Row] = {}
        for name in names:
            group = self.groups.get(name)
            if group is not None and group.rows:
                found |= group.rows
            elif name in self.rows:
                found[name] = self.rows[name]
            elif group is not None or name in self.measurements:
                ones = group.measurements if group else {name: self.measurements[name]}
                commands = " | ".join(
                    one.command for one in ones.values() if one.command
                )
                run = f"run {commands}" if commands else "it was noted by hand"
                raise InputError(f"{name} is no row but a measurement: {run}")
            else:
                known = nearest(name, [*self.groups, *self.rows])
                raise InputError(f"no row or group {name!r}: {known}")
        return list(found.values())


@functools.cache
def catalogue() -> Catalogue:
    """The content of all files, in the order of their names."""
    groups, plans = {}, {}
    folder = files("vaejax.reproduction") / "rows"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        content = tomllib.loads(file.read_text("utf-8"))
        name = file.name.removesuffix(".toml").partition("-")[2]
        plans |= {one.name: one for one in described(Plan, content.get("runs", {}))}
        rows = described(Row, content.get("rows", {}))
        found = described(Measurement, content.get("measurements", {}))
        groups[name] = Section(
            name,
            content["title"],
            content.get("text", "").strip(),
            {row.name: row for row in rows},
            {one.name: one for one in found},
        )
    return Catalogue(groups, plans)


def described(kind: type, content: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    """The records of a table, `over` written out."""
    for name, fields in content.items():
        own = {n: value for n, value in fields.items() if n != "over"}
        for values in turns(fields.get("over", {})):
            yield kind(**replaced({"name": name, **own}, values))


def turns(over: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The values of each turn; one without values where there is no `over`."""
    if not over:
        yield {}
        return
    for values in zip(*over.values(), strict=True):
        yield dict(zip(over, values, strict=True))


def replaced(field: Any, values: Mapping[str, Any]) -> Any:
    """A field with `{name}` replaced: by the value itself where that is all of it."""
    if isinstance(field, dict):
        return {name: replaced(one, values) for name, one in field.items()}
    if isinstance(field, list):
        return tuple(replaced(one, values) for one in field)
    if not isinstance(field, str):
        return field
    for name, value in values.items():
        if field == f"{{{name}}}":
            return value
        field = field.replace(f"{{{name}}}", str(value))
    return field
