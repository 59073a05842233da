"""Presets and flags completed by the shell:

python scripts/completion.py bash > ~/.vaejax-completion
source ~/.vaejax-completion
"""

from vaejax.cli.programs.completion import run

if __name__ == "__main__":
    run()
