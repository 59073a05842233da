"""SIGTERM, SIGHUP and Ctrl-C as requests: finish the steps under way, save, leave."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def caught() -> list[signal.Signals]:
    """The signals that are answered: after `nohup`, a lost terminal is none."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [s for s in SIGNALS if s != signal.SIGHUP or not ignored]


class Stopped(KeyboardInterrupt):
    """Training stopped on a signal, after saving; `signum` is the signal."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


class Interrupts:
    """While entered, notes the first signal; the second acts as it did before.

    Enter it before what saves: until that is done, the first signal must not end it.

    Python delivers signals to the main thread only; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._noted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in caught()}
        return self

    def came(self) -> bool:
        """Whether there was a signal."""
        return self.signum is not None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._noted:
            self._restore()
            signal.raise_signal(signum)
        self._noted, self.signum = True, signum

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()
