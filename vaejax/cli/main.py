"""The installed command: `vaejax train vae` is `python scripts/train.py vae`."""

import importlib
import sys

import vaejax
from vaejax.cli import parse
from vaejax.cli.programs import program_names
from vaejax.errors import InputError, nearest


def main() -> None:
    """Runs the program that the first argument names."""
    name, rest = (sys.argv[1:] or [""])[0], sys.argv[2:]
    with parse.errors_in_one_line():
        if name in ("", "-h", "--help"):
            print(overview_of_programs())
            return
        if name == "--version":
            print(f"vaejax {vaejax.__version__}")
            return
        name = name.replace("-", "_")
        if name not in program_names():
            raise InputError(f"no program {name!r}: {nearest(name, program_names())}")
    program = importlib.import_module(f"vaejax.cli.programs.{name}")
    sys.argv = [f"{parse.COMMAND} {name}", *rest]
    program.run()


def overview_of_programs() -> str:
    """The programs, a line each."""
    width = max(map(len, program_names())) + 2
    lines = [f"  {name:{width}}{summary_of(name)}" for name in program_names()]
    return "\n".join(
        (
            f"usage: {parse.COMMAND} PROGRAM [arguments]",
            "",
            "programs:",
            *lines,
            "",
            f"arguments of one: {parse.COMMAND} PROGRAM --help",
        )
    )


def summary_of(name: str) -> str:
    """The first line of a program's help."""
    program = importlib.import_module(f"vaejax.cli.programs.{name}")
    return parse.summary(program.main.__doc__)
