"""Presets and flags completed by the shell:

python scripts/completion.py bash > ~/.vaejax-completion
source ~/.vaejax-completion
"""

from pathlib import Path
from typing import Annotated

import tyro

from vaejax.cli import parse
from vaejax.cli.shell_completion import Shell, completion


def main(shell: Annotated[Shell, tyro.conf.Positional]) -> None:
    """Prints what a shell sources to complete these scripts' presets and flags.

    Args:
      shell: which one.
    """
    here = Path(__file__)
    scripts = [path for path in sorted(here.parent.glob("*.py")) if path != here]
    print(completion(scripts, shell))


if __name__ == "__main__":
    parse.run_script(main)
