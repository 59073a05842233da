"""Checks that groups of settings share."""

from vaejax.errors import require


def at_least(least: int, group: object, *names: str) -> None:
    """InputError where a setting of the group is below `least`."""
    for name in names:
        value = vars(group)[name]
        require(value >= least, name, value, f"at least {least}")
