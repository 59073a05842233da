"""`config.json`: what an experiment is, and building it again from it."""

import dataclasses
import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from vaejax.configs import Data
from vaejax.data import Dataset, Spec
from vaejax.data.stored import read_as, read_record
from vaejax.errors import InputError, nearest
from vaejax.experiment import Experiment
from vaejax.training.older import DROPPED, SETTINGS

FORMAT = 1
# Settings that may change when a run goes on: where its state lives, what is computed
# again or in a loop, and what becomes of a corrupt record, which ended it before.
LAYOUT = ("fsdp", "remat", "scan", "skip_corrupt")


class Origin(NamedTuple):
    """The run whose parameters a run started from: `init` in `config.json`."""

    source: str
    """The run as it was given."""
    parts: tuple[str, ...]
    """The parts that were taken; none are all."""
    step: int
    """Of the source's state."""
    digest: str
    """Of its parameters and statistics, all parts."""

    @property
    def row(self) -> dict[str, Any]:
        """Entries of `environment.jsonl`, and thereby of the card."""
        return {
            "init_from": self.source,
            "init_parts": " ".join(self.parts) or "all",
            "init_step": self.step,
            "init_digest": self.digest,
        }

    @property
    def words(self) -> str:
        """The origin as a line names it."""
        return f"{self.source} (step {self.step}, digest {self.digest})"


def origin_in(config: Mapping[str, Any]) -> Origin | None:
    """The origin that a configuration records."""
    found = config.get("init")
    return None if found is None else read_record(Origin, found, "init")


def config_of(experiment: Experiment) -> dict[str, Any]:
    """The content of `config.json`: JSON values only."""
    arguments = dict(experiment.arguments)
    if isinstance(arguments.get("dataset"), Dataset):
        arguments["dataset"] = arguments["dataset"].spec.name
    config = {
        "format": FORMAT,
        "preset": experiment.name,
        "arguments": arguments,
        "data": experiment.dataset.spec.to_json(),
    }
    config |= {
        "likelihood": experiment.likelihood,
        "shape": experiment.dataset.spec.shape,
    }
    if experiment.frozen:
        config["frozen"] = {n: each.digest for n, each in experiment.frozen.items()}
    return json.loads(json.dumps(config))


def settings_and_facts(
    config: Mapping[str, Any], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings, preset, data and environment of a run, for those who follow it."""
    facts = {"data": config["data"], "environment": dict(environment)}
    return {**config["arguments"], "preset": config["preset"], **facts}


def check_config(config: Mapping[str, Any]) -> None:
    """InputError where it is not of a preset, its settings and a data set."""
    from vaejax.presets import PRESETS

    name, arguments = config.get("preset"), config.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError("it needs a preset and its arguments")
    if name not in PRESETS:
        raise InputError(
            f"it is of preset {name[:40]!r}, which is known once its module is "
            f"imported if it is one of your own: {nearest(name, PRESETS)}"
        )
    known = inspect.signature(PRESETS[name]).parameters
    for setting, value in arguments.items():
        if setting not in known:
            raise InputError(
                f"{name} has no setting {setting[:40]!r}: {nearest(setting, known)}"
            )
        read_as(known[setting].annotation, value, setting)
    origin_in(config)
    frozen = config.get("frozen", {})
    if not isinstance(frozen, dict) or not all(map(is_text, frozen.values())):
        raise InputError("frozen must be digests by setting")
    spec = Spec.from_json(config.get("data", {}))
    read_as(str, config.get("likelihood", ""), "likelihood")
    shape = read_as(tuple[int, ...], config.get("shape", spec.shape), "shape")
    if shape != spec.shape:
        raise InputError("shape is not that of the data")


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], but: Collection[str] = ()
) -> list[str]:
    """Settings that differ, each as `name old (here new)`; of `but` they may."""
    found = []
    if old["preset"] != new["preset"]:
        found.append(f"preset {old['preset']} (here {new['preset']})")
    before, after = with_defaults(old), dict(new["arguments"])
    # What `auto` stands for is compared: older runs took all pictures as bits.
    if new.get("likelihood"):
        before["likelihood"] = likelihood_of(old)
        after["likelihood"] = new["likelihood"]
    for name in sorted((before.keys() | after.keys()) - set(but)):
        if before.get(name) != after.get(name):
            found.append(f"{name} {before.get(name)} (here {after.get(name)})")
    if not found and old["data"]["digest"] != new["data"]["digest"]:
        found.append(changed_content(*(Spec.from_json(c["data"]) for c in (old, new))))
    if not found and old.get("frozen", {}) != new.get("frozen", {}):
        names = " or ".join(f"{n} {after.get(n)}" for n in new.get("frozen", {}))
        found.append(f"the weights of {names} have changed")
    return found


def changed_content(known: Spec, found: Spec) -> str:
    """The line about data that are not those of a run."""
    before, now = known.first, found.first
    if before is None or now is None or before == now:
        return f"the content of {found.name} has changed"
    return before.change(now)


def host_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the commands of two hosts, `given` being what their runs
    start from.
    """
    mine, others = old.get("given", "none"), new.get("given", "none")
    start = [] if mine == others else [f"init_from {mine} (here {others})"]
    return [*differences(old, new), *start]


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and the defaults of settings that are younger than the run."""
    return defaults_of(config["preset"]) | recorded_arguments(config)


def recorded_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, and those that were fixed when the run was written."""
    dropped = DROPPED.get(config["preset"], ())
    kept = {n: v for n, v in config["arguments"].items() if n not in dropped}
    return {**SETTINGS.get(config["preset"], {}), **kept}


def defaults_of(name: str) -> dict[str, Any]:
    """The defaults of a preset's settings, as JSON; none where it is unknown."""
    from vaejax.presets import PRESETS

    make = PRESETS.get(name)
    known = inspect.signature(make).parameters if make else {}
    defaults = {each: parameter.default for each, parameter in known.items()}
    return json.loads(json.dumps(defaults))


def experiment_of(config: Mapping[str, Any]) -> Experiment:
    """The experiment of a checked `config.json`."""
    from vaejax.presets import PRESETS

    name, arguments = config["preset"], recorded_arguments(config)
    spec = Spec.from_json(config["data"])
    opened = recorded_dataset(spec, with_defaults(config))
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in arguments.items()}
    made = PRESETS[name](**given | {"dataset": opened})
    for setting, digest in config.get("frozen", {}).items():
        if setting in made.frozen:
            made.frozen[setting].expect(digest)
    return made


def likelihood_of(config: Mapping[str, Any]) -> str:
    """The likelihood by name, `auto` resolved; empty where settings choose none."""
    if "likelihood" in config:
        return config["likelihood"]
    return experiment_of(config).likelihood


def recorded_dataset(spec: Spec, arguments: Mapping[str, Any]) -> Dataset:
    """The dataset as the run knew it; its examples are opened when they are asked for.

    So a run can be loaded and sampled where its data is not.
    """

    def found() -> Dataset:
        from vaejax.data import open_dataset
        from vaejax.data.numerals import HOLES

        fields = (field.name for field in dataclasses.fields(Data))
        data = Data(**{name: arguments[name] for name in fields})
        chosen = data.dataset, data.validation, data.counts, data.categories
        # Runs that know no names took labels as they are stored.
        named = bool(spec.names)
        table = data.csv
        # Older runs took NA for a hole in texts, too.
        if spec.name.startswith("csv:") and spec.dialect is None:
            table = table._replace(missing=HOLES)
        found = open_dataset(*chosen, data.reading, named=named, table=table)
        if found.spec.digest != spec.digest:
            raise InputError(changed_content(spec, found.spec))
        return found

    return Dataset(
        spec, lambda name: found().split(name), lambda name: found().examples(name)
    )
