"""Presets' signatures: groups where they are written, flat where they are used.

A preset takes groups of settings and lone settings; `preset` makes its signature flat,
so that `vae(latents=64, epochs=5)`, `train.py vae --latents 64 --epochs 5` and the
arguments in `config.json` are the same words.
"""

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, overload

from vaejax.errors import InputError, nearest
from vaejax.experiment import Experiment
from vaejax.runtime.limits import check_setting

Preset = Callable[..., Experiment]

OF_ALL = """

Returns:
  The experiment, for `vaejax.train`. Settings that have no line here are explained by
  `help(vaejax.configs)` and by `scripts/train.py {name} --help`.

Raises:
  InputError: a setting is unknown or impossible, or the data are not of its kind.
"""
"""The end of every preset's docstring."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a preset, and the group that holds it ("" for a lone one)."""

    name: str
    group: str
    annotation: Any
    default: Any


def settings_of(make: Callable[..., Any]) -> dict[str, Setting]:
    """The flat settings of a function whose parameters are groups or lone settings."""
    found = []
    for parameter in inspect.signature(make).parameters.values():
        default = parameter.default
        if is_group(default):
            found += [
                Setting(f.name, parameter.name, f.type, getattr(default, f.name))
                for f in dataclasses.fields(default)
            ]
        else:
            found.append(Setting(parameter.name, "", parameter.annotation, default))
    for name, times in Counter(setting.name for setting in found).items():
        if times > 1:
            raise TypeError(f"{name} is a setting twice, which one flag cannot be")
    return {setting.name: setting for setting in found}


TINY: Mapping[str, Any] = {"hidden": (16,), "latents": 3}
"""Settings that make most presets small; `@preset(tiny=...)` adds to them."""


@overload
def preset(make: Preset, /) -> Preset: ...
@overload
def preset(*, tiny: Mapping[str, Any]) -> Callable[[Preset], Preset]: ...
def preset(
    make: Preset | None = None, /, *, tiny: Mapping[str, Any] = MappingProxyType({})
) -> Preset | Callable[[Preset], Preset]:
    """A preset with a flat signature, stamping name and arguments on what it makes.

    Args:
      make: the function, whose parameters are groups of settings and lone settings.
      tiny: settings that make it small enough to be tried in seconds, beside `TINY`:
        the contract over all presets uses them.
    """
    if make is None:
        return functools.partial(stamp, tiny=tiny)
    return stamp(make, tiny)


def stamp(make: Preset, tiny: Mapping[str, Any]) -> Preset:
    """The function that `preset` returns."""
    settings = settings_of(make)
    groups = {n: p.default for n, p in inspect.signature(make).parameters.items()}
    small = {n: v for n, v in TINY.items() if n in settings} | dict(tiny)

    @functools.wraps(make)
    def stamped(**given: Any) -> Experiment:
        given = flattened(given, groups)
        for name in given.keys() - settings.keys():
            known = nearest(name, settings)
            raise InputError(f"{make.__name__} has no setting {name!r}: {known}")
        flat = {name: given.get(name, s.default) for name, s in settings.items()}
        for setting in settings.values():
            check_setting(setting.name, setting.annotation, flat[setting.name])
        made = make(**grouped_arguments(flat, settings, groups))
        return dataclasses.replace(made, name=make.__name__, arguments=flat)

    stamped.__doc__ = inspect.cleandoc(make.__doc__ or "") + OF_ALL.format(
        name=make.__name__
    )
    stamped.__dict__["tiny"] = MappingProxyType(small)
    stamped.__signature__ = inspect.Signature(  # pyright: ignore
        [
            inspect.Parameter(
                setting.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=setting.default,
                annotation=setting.annotation,
            )
            for setting in settings.values()
        ]
    )
    return stamped


def presets_of(family: ModuleType) -> dict[str, Preset]:
    """The presets that a module defines, by name and in its order."""
    return {
        name: make
        for name, make in vars(family).items()
        if inspect.isfunction(make)
        and make.__module__ == family.__name__
        and "tiny" in vars(make)
    }


def tiny_settings(make: Preset) -> dict[str, Any]:
    """The settings that make a preset small enough to be tried in seconds."""
    return dict(vars(make)["tiny"])


def flattened(given: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any]:
    """Whole groups among the arguments, as a parsed command line has, become fields."""
    flat = {}
    for name, value in given.items():
        flat |= vars(value) if name in groups and is_group(value) else {name: value}
    return flat


def is_group(value: Any) -> bool:
    """Whether a default is a group of settings."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def grouped_arguments(
    flat: dict[str, Any], settings: dict[str, Setting], groups: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of the function: lone settings, and groups made of theirs."""
    arguments = {n: v for n, v in flat.items() if not settings[n].group}
    for group, default in groups.items():
        fields = {n: v for n, v in flat.items() if settings[n].group == group}
        if fields:
            arguments[group] = dataclasses.replace(default, **fields)
    return arguments
