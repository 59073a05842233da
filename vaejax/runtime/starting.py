"""The start of a script, so that it ends well: signals, and lost terminals.

JAX and what it needs load for seconds, and its compiled programs run for longer; in
both, Python does not come to its handlers of signals, and taking down the interpreter
beside XLA's threads crashes. So a thread waits for signals, and ends the process
itself. This module needs nothing but the standard library and is imported first; in a
program that is not one of the scripts, nor the command `vaejax`, it does nothing.
"""

import contextlib
import errno
import inspect
import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vaejax.runtime.preemption import Interrupts, caught

PACKAGE = Path(__file__).resolve().parents[1]
SCRIPTS = PACKAGE.parent / "scripts"


class Kept(io.FileIO):
    """A stream whose reader may leave: what is written then is dropped.

    A broken pipe or a lost terminal is no reason to lose a run.
    """

    def write(self, data, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            return memoryview(data).nbytes


def is_script() -> bool:
    """Whether this process runs a script or the command, and is not a worker of it."""
    file = vars(sys.modules["__main__"]).get("__file__")
    if multiprocessing.parent_process() is not None:
        return False
    if not file:  # `python -m vaejax`, which has found the package but not run it
        return sys.argv[:1] == ["-m"] and sys.orig_argv[1:3] == ["-m", PACKAGE.name]
    path = Path(file).resolve()
    command = path.stem == PACKAGE.name and path.suffix in ("", ".exe")
    return command or path.parent == SCRIPTS or path == PACKAGE / "__main__.py"


def keep_streams() -> None:
    """Standard streams that outlive their readers and write any text.

    One that is closed is opened to nothing: else the next file that is opened would
    take its number, and get what libraries write to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = kept_stream(1, sys.stdout)
    sys.stderr = kept_stream(2, sys.stderr)


def kept_stream(number: int, old: object) -> io.TextIOWrapper:
    """The stream of a file descriptor; what its encoding lacks becomes `?`."""
    known = isinstance(old, io.TextIOWrapper)
    return io.TextIOWrapper(
        io.BufferedWriter(Kept(number, "w", closefd=False)),
        encoding=old.encoding if known else "utf-8",
        errors="replace",
        line_buffering=old.line_buffering if known else False,
    )


def report_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """Reports an error that a callback cannot raise, unless its event loop is closed.

    When one write of a checkpoint fails, Orbax closes the loop, and each write that was
    under way fails to report to it. The run itself says what failed first.
    """
    error = found.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__unraisablehook__(found)


def say(line: str) -> None:
    """A line on stderr, if anybody reads it."""
    with contextlib.suppress(Exception):
        print(line, file=sys.stderr, flush=True)


def end_now(line: str, code: int) -> NoReturn:
    """Says a line and ends the process, whatever its threads are doing."""
    say(line)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


class Watch:
    """Ends the process at a signal; one in training is left to it, the first time."""

    def __init__(self, end: Callable[[str, int], object] = end_now) -> None:
        self._end, self._told = end, None
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for signum in caught():
            signal.signal(signum, lambda *_: None)
        self._signals = read
        threading.Thread(target=self._wait, daemon=True, name="signals").start()

    def _wait(self) -> None:
        while received := os.read(self._signals, 1):
            if received[0] in caught():
                self.answer(signal.Signals(received[0]))

    def answer(self, signum: signal.Signals) -> None:
        """Ends the process, unless training has just been told to save."""
        handler = signal.getsignal(signum)
        training = inspect.ismethod(handler) and handler.__self__
        if isinstance(training, Interrupts) and training is not self._told:
            self._told = training
            say(f"{signum.name}: saves after the steps under way; again ends at once")
        else:
            self._end(f"stopped by {signum.name}", 128 + signum)


def load_jax() -> None:
    """Imports JAX, or ends with a line where a setting of its own stops it."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        given = [n for n in os.environ if n.startswith("JAX_")]
        blamed = [n for n in given if n.lower() in reason.lower()] or given
        if not blamed:
            raise
        settings = " ".join(f"{name}={os.environ[name]}" for name in blamed)
        end_now(f"error: JAX does not start with {settings}: {reason}", 2)


if is_script():
    keep_streams()
    sys.unraisablehook = report_unraisable
    Watch()
    load_jax()
