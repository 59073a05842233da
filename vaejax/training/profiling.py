"""A trace of a few steps, for XProf (`pip install xprof; xprof FOLDER`)."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax

from vaejax.errors import InputError
from vaejax.runtime import multihost


class Profile(NamedTuple):
    """Steps `start` + 1 to `stop`, traced on the first host into `folder`."""

    start: int
    stop: int
    folder: Path

    @classmethod
    def parse(cls, text: str, folder: Path) -> Self:
        """From `START:STOP`; InputError where it is something else."""
        found = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
        if not found or int(found[1]) >= int(found[2]):
            raise InputError(
                f"--profile {text}: give two steps, the lesser first, as 100:105"
            )
        return cls(int(found[1]), int(found[2]), folder)

    def check(self, step: int, total: int) -> None:
        """InputError where the steps are not among those from `step` to `total`."""
        if not step <= self.start < total:
            raise InputError(
                f"--profile {self.start}:{self.stop}: this run takes steps {step} to "
                f"{total}"
            )


class Trace(contextlib.AbstractContextManager["Trace"]):
    """The trace of a profile, opened and closed on a run's way; of None, none.

    Left, it closes what is open: the run ended before the profile's last step.
    """

    def __init__(self, profile: Profile | None) -> None:
        self._profile, self._open = profile, contextlib.ExitStack()

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The interval, cut where the trace begins and ends."""
        ends = (self._profile.start, self._profile.stop) if self._profile else ()
        cuts = [at for at in ends if start < at < stop]
        yield from zip([start, *cuts], [*cuts, stop], strict=True)

    def before(self, first: int, running: Any) -> None:
        """Opens the trace at its first step, once what is `running` has ended."""
        profile = self._profile
        if profile and first == profile.start and multihost.first():
            jax.block_until_ready(running)
            self._open.enter_context(jax.profiler.trace(str(profile.folder)))

    def after(self, last: int, running: Any) -> None:
        """Closes the trace after its last step, once what is `running` has ended."""
        if self._profile and last == self._profile.stop:
            jax.block_until_ready(running)
            self._open.close()
