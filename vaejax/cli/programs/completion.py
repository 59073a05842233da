"""The program `completion`."""

from collections.abc import Sequence
from typing import Annotated

import tyro

from vaejax.cli import parse
from vaejax.cli.programs import program_names
from vaejax.cli.shell_completion import Shell, completion


def main(shell: Annotated[Shell, tyro.conf.Positional]) -> None:
    """Prints what a shell sources to complete the presets and flags of the programs.

    Args:
      shell: which one.
    """
    names = [name for name in program_names() if name != "completion"]
    print(completion(names, shell, parse.program().startswith(parse.COMMAND)))


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
