"""The program `benchmark`."""

from collections.abc import Sequence
from typing import Literal

from vaejax.cli import parse


def main(
    model: Literal["vae", "vaegan"] = "vae",
    batch_size: int = 128,
    epochs: int = 10,
    hidden: int = 512,
    seeds: int = 1,
) -> None:
    """Prints examples/s of each epoch, and what share of the matrix rate that is.

    The network is 784-HIDDEN-20-HIDDEN-784 on mnist_5k, grey targets, Adam.

    Args:
      model: vaegan has a critic 784-256-1 besides, of data and samples.
      batch_size: examples of a step.
      epochs: timed epochs, after one that compiles.
      hidden: width of the hidden layers.
      seeds: replicas, side by side against one after another.
    """
    from vaejax.cli import benchmark

    for line in benchmark.speed_lines(model, batch_size, epochs, hidden, seeds):
        print(line, flush=True)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
