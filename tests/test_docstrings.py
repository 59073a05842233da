"""Docstrings of what is public: arguments, results, errors, units and sources."""

import doctest
import importlib
import inspect
import re

import pytest

import vaejax
from tests.pages import ROOT
from vaejax.presets import PRESETS

REFERENCE = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
NAMES = re.findall(r"^::: (vaejax\S*)", REFERENCE, re.MULTILINE)
"""All that the API reference shows: functions, classes and modules."""


def found(name):
    """The object of a dotted name, which may lead through modules and classes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            place = importlib.import_module(".".join(parts[:length]))
            for part in parts[length:]:
                place = getattr(place, part)
            return place
        except (ImportError, AttributeError):
            continue
    raise AssertionError(f"nothing is called {name}")


OBJECTS = {name: found(name) for name in NAMES} | {
    f"vaejax.{name}": getattr(vaejax, name) for name in vaejax.__all__
}
FUNCTIONS = {name: each for name, each in OBJECTS.items() if inspect.isfunction(each)}


def members(module):
    """What a module defines for others, by name."""
    return {
        name: each
        for name, each in vars(module).items()
        if not name.startswith("_")
        and getattr(each, "__module__", None) == module.__name__
        and (inspect.isfunction(each) or inspect.isclass(each))
    }


def made_up(each):
    """The docstring that Python gives to a named tuple or dataclass without one."""
    if fields := getattr(each, "_fields", None):
        return each.__name__ + str(fields).replace("'", "")
    return f"{each.__name__}{inspect.signature(each)}".replace(" -> None", "")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_returns_and_raises(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    preset = name.rpartition(".")[2] in PRESETS
    signature = inspect.signature(inspect.unwrap(function))
    if not preset:  # their settings are fields, with a line each
        for parameter in signature.parameters:
            assert re.search(rf"\b{parameter}\b", text), f"{name}: {parameter}"
    assert signature.return_annotation in (None, "None") or "Returns:" in text
    source = inspect.getsource(inspect.unwrap(function))
    if re.search(r"raise InputError|require\(", source):
        assert re.search(r"Raises:\n +InputError", text), name


@pytest.mark.parametrize("name", [n for n, o in OBJECTS.items() if inspect.ismodule(o)])
def test_all_that_a_module_of_the_reference_defines_is_described(name):
    module = OBJECTS[name]
    assert inspect.getdoc(module)
    for member, each in members(module).items():
        assert each.__doc__ and each.__doc__ != made_up(each), f"{name}.{member}"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_cites_its_source(name):
    assert re.search(r"\[[^\]]*\d{4}[^\]]*\]", PRESETS[name].__doc__), name


@pytest.mark.parametrize("name", ["elbo", "iwae", "capacity", "reconstruction"])
def test_an_objective_has_a_formula_units_and_a_source(name):
    text = inspect.getdoc(getattr(vaejax.objectives, name)) or ""
    assert "loss = " in text and "nats" in text
    assert re.search(r"\[[^\]]*\d{4}[^\]]*(eq|sec|fig)\.", text)


def test_help_of_elbo_is_enough_to_use_it():
    """Its example, as it is printed, runs."""
    assert vaejax.elbo is vaejax.objectives.elbo
    tests = doctest.DocTestFinder(recurse=False).find(vaejax.elbo, "elbo")
    assert sum(len(test.examples) for test in tests) > 5
    for test in tests:
        runner = doctest.DocTestRunner()
        runner.run(test)
        assert not runner.failures
