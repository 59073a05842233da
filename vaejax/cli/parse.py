"""The command line: flags from signatures, and errors as one line.

tyro makes the flags of a typed function from its signature and docstring. What a user
can mend ends in one line on stderr and exit code 2; nothing ends in a traceback but our
own mistakes.
"""

import contextlib
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from vaejax.errors import InputError, nearest, shortened
from vaejax.runtime.limits import check_flags
from vaejax.runtime.starting import end_now, is_script

Workdir = Annotated[
    Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR", name="workdir")
]
Workdirs = Annotated[
    tuple[Path, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN [RUN ...]", name="workdirs", help_behavior_hint=""),
]
CONFIG = (tyro.conf.OmitArgPrefixes,)
COMMAND = "vaejax"
COMPLETION = "--tyro-print-completion"
Wrap = Callable[[Callable[..., None], Callable[..., Any]], Callable[..., None]]
"""From a `main` and a preset to the command that is parsed."""


def run_script(main: Callable[..., None], argv: Sequence[str] | None = None) -> None:
    """Calls `main` with the arguments of the command line."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    with errors_in_one_line():
        parse_arguments(main, arguments, program())()


def run_preset(
    main: Callable[..., None], wrap: Wrap, argv: Sequence[str] | None = None
) -> None:
    """Calls `main` with a preset and its settings as `wrap` gives them, and its flags.

    `wrap` is `with_settings`, `with_maker` or `with_varied_settings`.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    with errors_in_one_line():
        from vaejax.presets import PRESETS
        from vaejax.presets.citations import bibtex

        if not arguments or arguments[0] in ("-h", "--help"):
            print(overview(main))
            return
        name = arguments.pop(0)
        if name == COMPLETION:
            commands = {n: wrap(main, preset) for n, preset in PRESETS.items()}
            tyro.extras.subcommand_cli_from_dict(
                commands, prog=program(), args=[name, *arguments], config=CONFIG
            )
        if name not in PRESETS:
            raise InputError(f"no preset {name!r}: {nearest(name, PRESETS)}")
        if "--cite" in arguments:
            print(bibtex(name))
            return
        call = parse_arguments(
            wrap(main, PRESETS[name]), arguments, f"{program()} {name}"
        )
        call()


def program() -> str:
    """The name of the script, as typed: `train.py`, or `vaejax train`."""
    return Path(sys.argv[0]).name


def command_line(name: str) -> str:
    """The words that run another program, in the way that this one was run."""
    if program().startswith(f"{COMMAND} "):
        return f"{COMMAND} {name}"
    return f"python scripts/{name}.py"


def overview(main: Callable[..., None]) -> str:
    """The presets, a line each."""
    from vaejax.presets import PRESETS

    width = max(map(len, PRESETS)) + 2
    lines = [
        f"  {name:{width}}{summary(make.__doc__)}" for name, make in PRESETS.items()
    ]
    return "\n".join(
        (
            f"usage: {program()} PRESET [--setting value ...]",
            "",
            summary(main.__doc__),
            "",
            "presets:",
            *lines,
            "",
            f"settings of one: {program()} PRESET --help",
            f"what to cite for one, as BibTeX: {program()} PRESET --cite",
        )
    )


def summary(doc: str | None) -> str:
    """The first line of a docstring."""
    return inspect.cleandoc(doc or "").partition("\n")[0]


def with_settings(
    main: Callable[..., None], preset: Callable[..., Any]
) -> Callable[..., None]:
    """The command for a `main(experiment, ...)`."""

    def command(settings: dict[str, Any], **flags: Any) -> None:
        main(preset(**settings), **flags)

    return describe_preset(command, main, preset)


def with_maker(
    main: Callable[..., None], preset: Callable[..., Any]
) -> Callable[..., None]:
    """The command for a `main(make, ...)`: a preset with its settings, which other
    arguments of `make` replace.
    """

    def command(settings: dict[str, Any], **flags: Any) -> None:
        main(functools.partial(preset, **settings), **flags)

    return describe_preset(command, main, preset)


def describe_preset(
    command: Callable[..., None], main: Callable[..., None], preset: Callable[..., Any]
) -> Callable[..., None]:
    """The command with the flags of a preset's settings in groups, and of `main`."""
    make = inspect.unwrap(preset)

    @functools.wraps(make)
    def settings(**given: Any) -> dict[str, Any]:
        return given

    _, *own = inspect.signature(main).parameters.values()
    grouped = Annotated[dict, tyro.conf.arg(constructor=settings, name="")]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("settings", kind, annotation=grouped), *own]
    doc = (summary(make.__doc__), "", arguments_of(main))
    return describe_command(command, parameters, doc)


def with_varied_settings(
    main: Callable[..., None], preset: Callable[..., Any]
) -> Callable[..., None]:
    """The command for a `main(make, vary, fixed, ...)`: a preset, the settings that are
    given several values, and the others.

    Names of data sets, tuples, switches and the seed have one value.
    """
    known = inspect.signature(preset).parameters
    many = {n for n, p in known.items() if can_vary(p)}
    settings = [
        p.replace(annotation=tuple[p.annotation, ...], default=(p.default,))
        if name in many
        else p
        for name, p in known.items()
    ]
    _, _, _, *own = inspect.signature(main).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [*settings, *(p.replace(kind=keyword) for p in own)]

    def command(**given: Any) -> None:
        flags = {p.name: given.pop(p.name) for p in own}
        vary = {n: v for n, v in given.items() if n in many and len(v) != 1}
        rest = {n: v for n, v in given.items() if n not in vary}
        fixed = {n: v[0] if n in many else v for n, v in rest.items()}
        main(preset, vary, fixed, **flags)

    several = "Settings are those of train.py, with one or more values each."
    doc = (summary(preset.__doc__), "", several, "", arguments_of(main))
    return describe_command(command, parameters, doc)


def describe_command(
    command: Callable[..., None],
    parameters: Sequence[inspect.Parameter],
    doc: Sequence[str],
) -> Callable[..., None]:
    """The command with what tyro reads of it: parameters, and the lines of its help."""
    command.__signature__ = inspect.Signature(parameters)  # pyright: ignore
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = "\n".join(doc)
    return command


def can_vary(setting: inspect.Parameter) -> bool:
    """Whether a setting may have several values on the command line."""
    lone = setting.name in ("dataset", "seed") or setting.annotation is bool
    return not lone and not isinstance(setting.default, tuple)


def arguments_of(main: Callable[..., None]) -> str:
    """The Args section of a docstring."""
    doc = inspect.cleandoc(main.__doc__ or "")
    return "Args:" + doc.partition("Args:")[2]


def parse_arguments(
    main: Callable[..., None], arguments: Sequence[str], prog: str
) -> Callable[[], None]:
    """`main` with the parsed arguments, not yet called: its errors are not tyro's."""

    @functools.wraps(main)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], None]:
        check_flags(inspect.signature(main).bind(*args, **kwargs).arguments)
        return functools.partial(main, *args, **kwargs)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(bound, args=arguments, prog=prog, config=CONFIG)
    except SystemExit as exit:
        if exit.code:
            raise InputError(condensed(said.getvalue(), prog)) from None
        raise


def condensed(box: str, prog: str) -> str:
    """tyro's framed message as one line."""
    framed = (re.sub(r"^[│|╭╰+] ?|[│|╮╯+]$", "", line) for line in box.splitlines())
    _, *lines = (line.strip() for line in framed)
    # Where stdout is ASCII the title has a rule of its own.
    ruled = " ".join(lines).lstrip(" -")
    message, *rest = re.split(r"\s[─-]{3,}", ruled)
    message = re.sub(r"^ *Error parsing settings\S*: ", "", message)
    named = [word for part in rest for word in part.split() if word.startswith("--")]
    meant = dict.fromkeys(word for word in named if word != "--help")
    hint = f"; did you mean {', '.join(meant)}?" if "Perhaps" in box and meant else ""
    return f"{' '.join(message.split())}{hint} (see {prog} --help)"


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns what a user can mend into one line on stderr and an exit code."""
    from vaejax.runtime.preemption import Stopped
    from vaejax.training.loop import Diverged

    try:
        yield
    except InputError as error:
        leave(f"error: {error}", 2)
    except Diverged as error:
        leave(f"error: {error}", 1)
    except Stopped as stop:
        leave(str(stop), 128 + stop.signum)
    except KeyboardInterrupt:
        leave("stopped", 130)
    except MemoryError as error:
        leave(f"error: out of memory: {error or 'too large for this machine'}", 2)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        line = f"error: cannot write or read{where}: {error.strerror or error}"
        # Threads of a failed write would be waited for, for minutes.
        (end_now if is_script() else leave)(shortened(line), 1)
    except Exception as error:
        if reason := of_jax(error):
            leave(f"error: {reason}", 2)
        raise


def of_jax(error: Exception) -> str:
    """The line for an error that is JAX's: no memory, or no device to start on."""
    import jax

    if isinstance(error, jax.errors.JaxRuntimeError):
        text = str(error)
        return f"out of memory: {text}" if "RESOURCE_EXHAUSTED" in text else ""
    try:
        jax.devices()
    except Exception as found:  # an AssertionError, where there is no CUDA
        chosen = os.environ.get("JAX_PLATFORMS", "")
        reason = str(found) or "there is no such device, or its plugin is missing"
        return f"JAX finds no device for JAX_PLATFORMS={chosen!r}: {reason}"
    return ""


def leave(line: str, code: int) -> NoReturn:
    """Says one line and exits."""
    print(shortened(line), file=sys.stderr, flush=True)
    sys.exit(code)
