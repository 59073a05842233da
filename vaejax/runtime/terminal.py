"""Printing for people."""

from typing import IO

from rich.console import Console


def console(
    file: IO[str] | None = None, *, stderr: bool = False, width: int | None = None
) -> Console:
    """A console that prints texts as they are: a name may hold `[/x]` or `:x:`."""
    return Console(file=file, stderr=stderr, width=width, markup=False, emoji=False)
