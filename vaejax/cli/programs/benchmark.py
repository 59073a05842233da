"""The program `benchmark`."""

from collections.abc import Sequence
from typing import Literal

from vaejax.cli import parse


def main(
    model: Literal["vae", "vaegan", "iwae", "nll"] = "vae",
    batch_size: int | None = None,
    epochs: int = 10,
    hidden: int | None = None,
    samples: int | None = None,
    seeds: int = 1,
) -> None:
    """Prints examples/s of each epoch, and what share of the matrix rate that is.

    The network of vae and vaegan is 784-HIDDEN-20-HIDDEN-784 on mnist_5k, grey targets,
    Adam. That of iwae and nll is 784-HIDDEN-HIDDEN-50 and its mirror, tanh, on dynamic
    bits; a loop written by hand and the matrix products alone run beside it in turn.

    Args:
      model: vaegan has a critic 784-256-1 besides, of data and samples; nll is the
        likelihood of a batch of test images by importance sampling.
      batch_size: examples of a step, or images of nll; default 128, of iwae 20, of nll
        100.
      epochs: timed epochs, after one that compiles; of nll batches.
      hidden: width of the hidden layers; default 512, of iwae and nll 200.
      samples: importance samples, of iwae and nll alone; default 5, of nll 5000.
      seeds: replicas, side by side against one after another; of vae and vaegan alone.
    """
    from vaejax.cli import benchmark

    given = {"batch_size": batch_size, "hidden": hidden, "samples": samples}
    for line in benchmark.speed_lines(model, given, epochs, seeds):
        print(line, flush=True)


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command line: `argv`, or else the arguments of the process."""
    parse.run_script(main, argv)
