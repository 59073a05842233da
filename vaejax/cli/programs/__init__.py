"""The programs, a module each: `main` with its flags, and `run`, which parses them.

`python scripts/NAME.py` and `vaejax NAME` run the same.
"""

import pkgutil


def program_names() -> list[str]:
    """The programs by name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
