"""Training speed on this machine: python scripts/benchmark.py --batch-size 128"""

from vaejax import cli


def main(batch_size: int = 128, epochs: int = 10, hidden: int = 512) -> None:
    """Prints examples/s of each epoch, and what share of the matrix rate that is.

    The network is 784-HIDDEN-20-HIDDEN-784 on mnist_5k, grey targets, Adam 1e-3.

    Args:
      batch_size: examples of a step.
      epochs: timed epochs, after one that compiles.
      hidden: width of the hidden layers.
    """
    from vaejax import benchmark

    for line in benchmark.lines(batch_size, epochs, hidden):
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main)
