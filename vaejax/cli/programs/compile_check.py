"""The program `compile_check`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from vaejax import Experiment
from vaejax.aot import report, topology
from vaejax.aot.settings import Beside
from vaejax.cli import parse


def main(
    make: Callable[..., Experiment],
    topology: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    images: str = "",
    json: Path | None = None,
    beside: Beside = Beside(),
) -> None:
    """Compiles the training steps for accelerators that are not here.

    Args:
      topology: a slice, as v5e:4x4, v5p:4x4x4 or h100:8; may be given several times.
      images: data that need not be here, as 162770x64x64x3; in 10 classes.
      json: file for the figures.
      beside: programs that are compiled beside the training step.
    """
    report.compile_check(make, topology, images, json, beside)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    topology.without_hardware()
    parse.run_preset(main, parse.with_maker, argv)
