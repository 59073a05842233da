"""Completion of the scripts' flags by the shell, made by tyro."""

import contextlib
import io
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from vaejax.cli.parse import COMPLETION
from vaejax.errors import InputError

Shell = Literal["bash", "zsh"]

# bash completes by the first word alone, which of `python scripts/train.py` is python;
# zsh looks at the script by itself.
BASH = """
_vaejax_python() {
  local script=${COMP_WORDS[1]##*/}
  local found; found=$(complete -p -- "$script" 2>/dev/null) || return 0
  [[ $script == *.py && $found == *"-F _tyro"* ]] || return 0
  found=${found##*-F }
  COMP_WORDS=("${COMP_WORDS[@]:1}")
  COMP_CWORD=$((COMP_CWORD - 1))
  "${found%% *}" "$script" "$2" "$3"
}
complete -o bashdefault -o default -F _vaejax_python python python3
"""


def completion(scripts: Sequence[Path], shell: str) -> str:
    """Code that a shell sources to complete the flags of all these scripts.

    Raises:
      InputError: another shell than bash or zsh.
    """
    if shell not in get_args(Shell):
        raise InputError(f"no completion for {shell}: bash or zsh")
    parts = [completion_of(script, shell) for script in scripts]
    return "\n".join([*parts, *([BASH] if shell == "bash" else [])])


def completion_of(script: Path, shell: str) -> str:
    """The same for one script, which is run to say it."""
    said, argv = io.StringIO(), sys.argv
    sys.argv = [script.name, COMPLETION, shell]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = argv
    # Sourced, it shall register the function; tyro's zsh is for a folder of functions.
    called = re.compile(r'^(_tyro_\w+) "\$@"$', re.MULTILINE)
    return called.sub(rf"compdef \1 {script.name}", said.getvalue())
