"""The program `compare`."""

from collections.abc import Sequence
from pathlib import Path

from vaejax.cli import commands_compare, parse


def main(
    workdirs: parse.Workdirs,
    samples: int | None = None,
    split: str = "test",
    metric: tuple[str, ...] = (),
    devices: int = 1,
    out: Path = Path("comparison.html"),
    json: bool = False,
) -> None:
    """Compares runs: a table, a page with curves, and differences with their errors.

    Over the same examples, a difference to the first run has the standard error of the
    paired differences: how far another test set would fall. Over seeds, groups of runs
    that differ in their seeds alone have that of Welch: how far another training would
    fall. Runs of other data or another likelihood do not compare.

    Args:
      workdirs: folders of runs; that of a study stands for its runs.
      samples: importance samples for each example; by default as in per_example.npz of
        the first run (evaluate.py --per-example), or 0, which leaves nll out.
      split: train, validation or test: the examples that are paired.
      metric: the numbers to show, by name; by default all that say how good a run is.
      devices: devices to use, over which batches are split.
      out: the page to write.
      json: print JSON instead of tables.
    """
    commands_compare.compare_runs(workdirs, samples, split, metric, devices, out, json)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
