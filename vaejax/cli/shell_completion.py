"""Completion of the programs' flags by the shell, made by tyro."""

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Literal, get_args

from vaejax.cli.parse import COMMAND, COMPLETION
from vaejax.errors import InputError

Shell = Literal["bash", "zsh"]

# bash completes by the first word alone, which of `python scripts/train.py` is python
# and of `vaejax train` is vaejax; zsh looks at the script by itself.
SCRIPTS_BASH = """
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
COMMAND_BASH = """
_vaejax() {
  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "PROGRAMS" -- "$2"))
    return 0
  fi
  local program="vaejax-${COMP_WORDS[1]}"
  local found; found=$(complete -p -- "$program" 2>/dev/null) || return 0
  found=${found##*-F }
  COMP_WORDS=("$program" "${COMP_WORDS[@]:2}")
  COMP_CWORD=$((COMP_CWORD - 1))
  "${found%% *}" "$program" "$2" "$3"
}
complete -o bashdefault -o default -F _vaejax vaejax
"""
COMMAND_ZSH = """
_vaejax() {
  if (( CURRENT == 2 )); then
    compadd PROGRAMS
    return
  fi
  local function="_tyro_vaejax_$words[2]"
  (( $+functions[$function] )) || return 1
  words=("vaejax-$words[2]" "${(@)words[3,-1]}")
  (( CURRENT-- ))
  $function
}
compdef _vaejax vaejax
"""


def completion(names: Sequence[str], shell: str, command: bool) -> str:
    """Code that a shell sources to complete the flags of all these programs.

    Args:
      names: the programs.
      shell: bash or zsh.
      command: whether they are typed as `vaejax NAME`, not as scripts.

    Raises:
      InputError: another shell than bash or zsh.
    """
    if shell not in get_args(Shell):
        raise InputError(f"no completion for {shell}: bash or zsh")
    typed = f"{COMMAND}-{{}}" if command else "{}.py"
    parts = [completion_of(name, typed.format(name), shell) for name in names]
    whole = {
        ("bash", False): SCRIPTS_BASH,
        ("bash", True): COMMAND_BASH,
        ("zsh", False): "",
        ("zsh", True): COMMAND_ZSH,
    }[shell, command]
    return "\n".join([*parts, whole.replace("PROGRAMS", " ".join(names))])


def completion_of(name: str, typed: str, shell: str) -> str:
    """The same for one program, which is run to say it."""
    program = importlib.import_module(f"vaejax.cli.programs.{name}")
    said, argv = io.StringIO(), sys.argv
    sys.argv = [typed]
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            program.run([COMPLETION, shell])
    finally:
        sys.argv = argv
    # Sourced, it shall register the function; tyro's zsh is for a folder of functions.
    called = re.compile(r'^(_tyro_\w+) "\$@"$', re.MULTILINE)
    return called.sub(rf"compdef \1 {typed}", said.getvalue())
